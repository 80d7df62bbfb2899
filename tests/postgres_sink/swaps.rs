//! Values of a UNIQUE constraint that go from row to row within one epoch.

use tidemark::model::EpochCommit;
use tidemark::sink::Sink;
use tidemark::sink::conformance::{EpochBuilder, KEYED, epoch};

use crate::postgres::{Durability, PostgresServer};
use crate::refused::Scene;

const UNIQUE: &str = "ALTER TABLE order_totals ADD UNIQUE (status)";

fn upserts(number: u64, rows: &[(i64, &str)]) -> EpochCommit {
    let add = |epoch: EpochBuilder, (key, status): &(i64, &str)| epoch.upserted(*key, status);
    rows.iter().fold(epoch(number), add).build()
}

/// A target with rows.
async fn scene(server: &PostgresServer, schema: &str, ddl: &str, rows: &[(i64, &str)]) -> Scene {
    let mut scene = Scene::set(server, schema, ddl).await;
    scene.sink.commit(&upserts(1, rows)).await.unwrap();
    scene
}

/// `KEY:STATUS` of each row, in the order of the keys.
async fn rows(scene: &Scene) -> Vec<String> {
    let sql = format!("SELECT order_id || ':' || status FROM {KEYED} ORDER BY order_id");
    let rows = scene.client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn rows_that_swap_a_unique_value_are_written() {
    let server = PostgresServer::start(Durability::Off).await;
    let before = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];
    let mut scene = scene(&server, "swaps", UNIQUE, &before).await;
    scene.sink.commit(&upserts(2, &[(1, "b"), (2, "a")])).await.unwrap();
    assert_eq!(rows(&scene).await, ["1:b", "2:a", "3:c", "4:d"]);
    // Round three rows, and along a chain whose end is written last.
    scene.sink.commit(&upserts(3, &[(1, "a"), (2, "c"), (3, "b")])).await.unwrap();
    assert_eq!(rows(&scene).await, ["1:a", "2:c", "3:b", "4:d"]);
    scene.sink.commit(&upserts(4, &[(1, "c"), (2, "b"), (3, "d"), (4, "e")])).await.unwrap();
    assert_eq!(rows(&scene).await, ["1:c", "2:b", "3:d", "4:e"]);
    assert_eq!(scene.letters().await, []);
}

#[tokio::test]
async fn beside_a_swap_a_refused_row_costs_itself_and_keeps_what_was_there() {
    let server = PostgresServer::start(Durability::Off).await;
    let before = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")];
    let mut scene = scene(&server, "beside", UNIQUE, &before).await;
    // What 4 wants is another's, whatever is written first; so 5 does not get what 4 has.
    let commit = upserts(2, &[(1, "b"), (2, "a"), (4, "c"), (5, "d")]);
    scene.sink.commit(&commit).await.unwrap();
    assert_eq!(rows(&scene).await, ["1:b", "2:a", "3:c", "4:d", "5:e"]);
    let letters = scene.letters().await;
    let refused: Vec<&str> = letters.iter().map(|(_, _, message)| message.as_str()).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("(23505)") && refused[0].contains("\"order_id\""), "{refused:?}");
}

#[tokio::test]
async fn a_row_that_would_lose_something_is_not_deleted() {
    let server = PostgresServer::start(Durability::Off).await;
    let cases = [
        ("noted", "ALTER TABLE order_totals ADD note text", "SELECT count(note) FROM order_totals"),
        (
            "referenced",
            "CREATE TABLE notes (order_id bigint REFERENCES order_totals ON DELETE CASCADE)",
            "SELECT count(*) FROM notes",
        ),
    ];
    for (schema, ddl, kept) in cases {
        let ddl = format!("{UNIQUE}; {ddl}");
        let mut scene = scene(&server, schema, &ddl, &[(1, "a"), (2, "b")]).await;
        let note = match schema {
            "noted" => "UPDATE order_totals SET note = 'by hand'",
            _ => "INSERT INTO notes SELECT order_id FROM order_totals",
        };
        scene.client.batch_execute(note).await.unwrap();
        scene.sink.commit(&upserts(2, &[(1, "b"), (2, "a")])).await.unwrap();
        assert_eq!(rows(&scene).await, ["1:a", "2:b"], "{schema}");
        assert_eq!(scene.letters().await.len(), 2, "{schema}");
        let count: i64 = scene.client.query_one(kept, &[]).await.unwrap().get(0);
        assert_eq!(count, 2, "{schema}");
    }
}
