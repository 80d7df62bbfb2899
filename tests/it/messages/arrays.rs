//! JSON arrays of events, through the whole processor: each event lands with a place and an id of its own, a bad one costs
//! itself alone, and its letter comes back to its own place.

use serde_json::{Value, json};
use tidemark_dev::stack::Settings;

use crate::dead_letters::dlq::replay;
use crate::messages::dialects::{message, publish, shown};
use crate::shop::{Shop, copied_sql};

const TOPIC: &str = "cdc/oracle/everything";

const NOTES: &str = "CREATE TABLE notes (id BIGINT PRIMARY KEY, title VARCHAR) \
    WITH (source = 'S.NOTES', ttl = 'none', truncate = 'dlq')";
const TITLES: &str = "-- writes: postgres titles\n-- key: id\nSELECT id, title FROM notes";
const SHOWN: &str = "SELECT id, title FROM titles ORDER BY id";

fn event(op: &str, id: i64, title: &str) -> Value {
    let row = json!({"ID": id, "TITLE": title});
    let (before, after) = match op {
        "d" => (row, Value::Null),
        "t" => (Value::Null, Value::Null),
        _ => (Value::Null, row),
    };
    let source = json!({"schema": "S", "table": "NOTES", "ts_ms": 1_706_000_000_000_i64});
    json!({"before": before, "after": after, "source": source, "op": op})
}

fn sent(events: &[Value]) -> String {
    message(TOPIC, &json!(events), json!({}))
}

#[tokio::test]
async fn the_events_of_an_array_are_applied_in_their_order_and_a_bad_one_comes_back_to_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    std::fs::write(sql.join("tables/notes.sql"), NOTES).expect("a file");
    std::fs::write(sql.join("transforms/titles.sql"), TITLES).expect("a file");
    let shop = Shop::open_with(|settings| Settings { sql: sql.clone(), ..settings }).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(
        &shop,
        &[
            sent(&[event("c", 1, "a")]),
            sent(&[event("c", 2, "a"), event("u", 2, "b"), event("c", 3, "c")]),
        ],
    )
    .await;
    shop.wait_for(2).await;
    assert_eq!(shown(&shop, SHOWN).await, ["1|a", "2|b", "3|c"], "{}", shop.log_tail("run"));
    // A table whose truncates are dead letters: one between a row that it would take away and one that comes after it.
    publish(
        &shop,
        &[sent(&[event("u", 3, "d"), event("t", 0, ""), event("c", 4, "e"), event("u", 4, "f")])],
    )
    .await;
    shop.wait_for(3).await;
    assert_eq!(shown(&shop, SHOWN).await, ["1|a", "2|b", "3|d", "4|f"]);
    let letters = "SELECT error_type, error_message FROM cdc_dlq";
    let told = shown(&shop, letters).await;
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("UNSUPPORTED_OPERATION|event 2 of 4 in its JSON array"),
        "{told:?}"
    );
    shop.end(&mut processor).await;

    std::fs::write(sql.join("tables/notes.sql"), NOTES.replace("dlq", "apply")).expect("a file");
    let mut processor = shop.stack.processor(None).expect("a processor");
    let (outcomes, _) = replay(&shop, &["--all"]).await;
    assert_eq!(outcomes, ["replayed"], "{}", shop.log_tail("run"));
    assert_eq!(shown(&shop, SHOWN).await, ["4|f"]);
    shop.end(&mut processor).await;

    // After a restart the landing table says the same, also to whoever reads it.
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, &[sent(&[event("c", 5, "g"), event("d", 4, "")])]).await;
    shop.wait_for(4).await;
    assert_eq!(shown(&shop, SHOWN).await, ["5|g"]);
    let current = "SELECT id, title FROM (SELECT DISTINCT ON (id) * FROM cdc_notes ORDER BY id, change_seq DESC) n \
                   WHERE operation <> 'd'";
    assert_eq!(shown(&shop, current).await, ["5|g"]);
    let places = "SELECT count(*), count(DISTINCT event_id), count(*) FILTER (WHERE event_id LIKE '%#event%') \
                  FROM cdc_notes";
    assert_eq!(shown(&shop, places).await, ["12|12|8"]);
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
