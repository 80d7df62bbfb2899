//! Values that are sent and read in pieces.

use bytes::Bytes;
use tidemark::sink::Sink;
use tidemark::sink::conformance::{LANDING, PIPELINE, epoch};
use tidemark::sink::postgres::{LetterFilter, LetterStore, PostgresConfig};

use crate::postgres::{Durability, PostgresServer};
use crate::refused::Scene;

/// Beyond what one page of letters holds, and no multiple of a piece.
const LETTER_BYTES: usize = (9 << 20) + 12_345;
const DDL: &str = "ALTER TABLE orders_history ALTER status TYPE text";

/// Bytes that no compression shrinks; not all of them are text.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 7u64;
    let byte = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..count).map(byte).collect()
}

#[tokio::test]
async fn a_large_dead_letter_is_there_once_with_all_of_its_bytes() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server, "letters", "").await;
    let payload = Bytes::from(bytes(LETTER_BYTES));
    let mut commit = epoch(1).dead(1).dead(2).dead(3).build();
    commit.dead_letters[1].payload = payload.clone();
    scene.sink.commit(&commit).await.unwrap();
    // The same event once more, which must not stop the epoch.
    let mut again = epoch(2).dead(2).build();
    again.dead_letters[0].payload = payload.clone();
    scene.sink.commit(&again).await.unwrap();

    let config =
        PostgresConfig { schema: "letters".to_owned(), ..PostgresConfig::from_url(server.url()) };
    let mut store = LetterStore::new(config, PIPELINE);
    let (mut read, mut last) = (Vec::new(), 0);
    loop {
        let page = store.after(&LetterFilter::default(), last, 100).await.unwrap();
        let Some(letter) = page.last() else { break };
        last = letter.id;
        read.push(page.iter().map(|letter| letter.payload.len()).collect::<Vec<_>>());
        assert!(page.iter().all(|letter| letter.payload.len() < 100 || letter.payload == payload));
    }
    let small = commit.dead_letters[0].payload.len();
    assert_eq!(read, [vec![small, small], vec![LETTER_BYTES]]);
    let unpublished = store.unpublished(100).await.unwrap();
    assert_eq!(unpublished.len(), 2, "the large one comes alone");
    let ids: Vec<i64> = unpublished.iter().map(|letter| letter.id).collect();
    store.published(&ids).await.unwrap();
    let large = store.unpublished(100).await.unwrap();
    let sizes: Vec<_> = large.iter().map(|l| (l.payload.len(), l.payload_bytes)).collect();
    assert_eq!(sizes, [(0, LETTER_BYTES)], "only the table has the bytes");
}

#[tokio::test]
async fn a_few_large_rows_land_beside_small_ones() {
    let server = PostgresServer::start(Durability::Off).await;
    let mut scene = Scene::set(&server, "rows", DDL).await;
    let text = |at: usize| format!("{at}{}", "ä\"".repeat(3 << 19));
    let commit = epoch(1).created(1, 1, "small").created(2, 2, &text(2)).created(3, 3, &text(3));
    scene.sink.commit(&commit.build()).await.unwrap();
    let sql = format!("SELECT status FROM {LANDING} ORDER BY order_id");
    let rows = scene.client.query(&sql, &[]).await.unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(found == ["small".to_owned(), text(2), text(3)], "{} rows", found.len());
}
