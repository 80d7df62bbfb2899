//! Rows without a key of their own: each costs itself in its result, at every start, and everything else goes on.

use serde_json::{Value, json};
use tidemark_dev::stack::Settings;

use crate::messages::dialects::shown;
use crate::shop::{Shop, copied_sql};

const LANDING: &str = "operation TEXT NOT NULL, source_ts TIMESTAMP, extra_fields JSONB, event_id TEXT NOT NULL UNIQUE, \
    change_seq BIGINT NOT NULL, processed_at TIMESTAMPTZ NOT NULL DEFAULT now()";

const FILES: [(&str, &str); 7] = [
    (
        "tables/parcels.sql",
        "CREATE TABLE parcels (id BIGINT PRIMARY KEY, depot VARCHAR) WITH (source = 'S.PARCELS', ttl = 'none')",
    ),
    (
        "tables/o.sql",
        "CREATE TABLE o (id BIGINT PRIMARY KEY, v VARCHAR) WITH (source = 'S.O', ttl = 'none')",
    ),
    (
        "tables/i.sql",
        "CREATE TABLE i (item BIGINT PRIMARY KEY, o_id BIGINT) WITH (source = 'S.I', ttl = 'none')",
    ),
    (
        "transforms/per_depot.sql",
        "-- writes: postgres per_depot\n-- key: depot\nSELECT depot, COUNT(*) AS n FROM parcels GROUP BY depot",
    ),
    (
        "transforms/lines.sql",
        "-- writes: postgres lines\n-- key: id, item\nSELECT o.id, i.item, o.v FROM o LEFT JOIN i ON i.o_id = o.id",
    ),
    // Many items of one order: the smallest is shown.
    (
        "transforms/first_items.sql",
        "-- writes: postgres first_items\n-- key: o_id\nSELECT o_id, item FROM i",
    ),
    // Reads a result, and sees what that shows.
    (
        "transforms/shown.sql",
        "-- writes: postgres shown\n-- key: one\nSELECT 1 AS one, COUNT(*) AS n, SUM(item) AS items FROM first_items",
    ),
];

fn event(table: &str, op: &str, row: &Value) -> String {
    let source = json!({"schema": "S", "table": table, "ts_ms": 1_706_000_000_000_i64});
    let (before, after) = if op == "d" { (row, &Value::Null) } else { (&Value::Null, row) };
    json!({"op": op, "before": before, "after": after, "source": source}).to_string()
}

fn parcel(id: i64, depot: Value) -> String {
    event("PARCELS", "c", &json!({"ID": id, "DEPOT": depot}))
}

fn item(op: &str, item: i64) -> String {
    event("I", op, &json!({"ITEM": item, "O_ID": 1}))
}

async fn opened(folder: &std::path::Path) -> Shop {
    let sql = copied_sql(folder);
    let ods = format!(
        "CREATE TABLE cdc_parcels (id BIGINT, depot TEXT, {LANDING}); CREATE TABLE cdc_o (id BIGINT, v TEXT, {LANDING}); \
         CREATE TABLE cdc_i (item BIGINT, o_id BIGINT, {LANDING});"
    );
    std::fs::write(sql.join("ods/90_keys.sql"), ods).expect("a file");
    for (name, text) in FILES {
        std::fs::write(sql.join(name), text).expect("a file");
    }
    Shop::open_with(|settings| Settings { sql, ..settings }).await
}

/// What the tables show after the events of `lines`, whatever the batches.
const EXPECTED: [(&str, &str); 5] = [
    ("SELECT depot, n FROM per_depot ORDER BY 1", "A|1, B|1"),
    ("SELECT id, item, v FROM lines ORDER BY 1, 2", "1|10|x, 1|11|x, 1|12|x"),
    ("SELECT o_id, item FROM first_items", "1|10"),
    ("SELECT n, items FROM shown", "1|10"),
    (
        "SELECT (SELECT count(*) FROM cdc_parcels), (SELECT count(*) FROM cdc_o), (SELECT count(*) FROM cdc_i)",
        "4|2|3",
    ),
];

fn lines() -> Vec<String> {
    vec![
        parcel(1, json!("A")),
        parcel(2, Value::Null),
        parcel(3, Value::Null),
        event("O", "c", &json!({"ID": 1, "V": "x"})),
        item("c", 11),
        item("c", 10),
        item("c", 12),
        event("O", "c", &json!({"ID": 2, "V": "no items yet"})),
        parcel(4, json!("B")),
    ]
}

async fn check(shop: &Shop, expected: &[(&str, &str)]) {
    for (sql, expected) in expected {
        assert_eq!(shown(shop, sql).await.join(", "), *expected, "{sql}\n{}", shop.log_tail("run"));
    }
}

const LETTERS: &str =
    "SELECT original_topic, error_type, column_name, phase, payload FROM cdc_dlq ORDER BY id";

#[tokio::test]
async fn rows_without_a_key_of_their_own_cost_themselves_and_are_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = opened(folder.path()).await;
    let mut events = lines();
    shop.replay("events", (&events, 100)).await;
    check(&shop, &EXPECTED).await;
    let letters = [
        r#"result/first_items|DUPLICATE_KEY|NULL|sql|{"item": 11, "o_id": 1}"#,
        r#"result/first_items|DUPLICATE_KEY|NULL|sql|{"item": 12, "o_id": 1}"#,
        r#"result/lines|NULL_KEY|item|sql|{"v": "no items yet", "id": 2, "item": null}"#,
        r#"result/per_depot|NULL_KEY|depot|sql|{"n": 2, "depot": null}"#,
    ]
    .join(", ");
    check(&shop, &[(LETTERS, &letters)]).await;
    let told = shown(&shop, "SELECT error_message FROM cdc_dlq WHERE column_name = 'depot'").await;
    assert!(told[0].contains("per_depot") && told[0].contains("per_depot.sql"), "{told:?}");

    // The one that is shown goes: the next one appears, at a start that knows all of this from its tables.
    events.push(item("d", 10));
    events.push(item("d", 11));
    shop.replay("events", (&events, 1)).await;
    check(
        &shop,
        &[("SELECT o_id, item FROM first_items", "1|12"), ("SELECT n, items FROM shown", "1|12")],
    )
    .await;
    check(&shop, &[(LETTERS, &letters)]).await;
    events.push(item("d", 12));
    events.push(event("I", "c", &json!({"ITEM": 20, "O_ID": 2})));
    shop.replay("events", (&events, 100)).await;
    let gone = [
        ("SELECT o_id, item FROM first_items", "2|20"),
        ("SELECT id, item, v FROM lines", "2|20|no items yet"),
        ("SELECT depot, n FROM per_depot ORDER BY 1", "A|1, B|1"),
    ];
    check(&shop, &gone).await;
    // Order 1 has no items any more.
    check(&shop, &[("SELECT count(*) FROM cdc_dlq", "5")]).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn event_by_event_with_restarts_comes_to_the_same_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = opened(folder.path()).await;
    let events = lines();
    for count in [2, 5, events.len()] {
        shop.replay("events", (&events[..count], 1)).await;
    }
    check(&shop, &EXPECTED).await;
    shop.stack.stop().await.expect("the servers end");
}

/// Fails over every row whose divisor is 0, of which there are more in a row than single events can be blamed for.
const RATES: &str =
    "-- writes: postgres rates\n-- key: id\nSELECT id, 100 / divisor AS rate FROM rated";

const RATED: [(&str, &str); 4] = [
    (
        "tables/rated.sql",
        "CREATE TABLE rated (id BIGINT PRIMARY KEY, divisor BIGINT) WITH (source = 'S.RATED', ttl = 'none')",
    ),
    ("transforms/rates.sql", RATES),
    (
        "transforms/counts.sql",
        "-- writes: postgres counts\n-- key: divisor\nSELECT COALESCE(divisor, -1) AS divisor, COUNT(*) AS n FROM rated GROUP BY 1",
    ),
    (
        "transforms/over_rates.sql",
        "-- writes: postgres over_rates\n-- key: id\nSELECT id, rate FROM rates",
    ),
];
const ALL_RATES: &str = "SELECT id, rate FROM rates ORDER BY id";
const ALL_COUNTS: &str = "SELECT divisor, n FROM counts ORDER BY divisor";

#[tokio::test]
async fn a_query_that_fails_over_many_rows_waits_and_everything_else_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let ods = format!("CREATE TABLE cdc_rated (id BIGINT, divisor BIGINT, {LANDING})");
    for (name, text) in RATED.into_iter().chain([("ods/90_rated.sql", ods.as_str())]) {
        std::fs::write(sql.join(name), text).expect("a file");
    }
    let shop = Shop::open_with(|settings| Settings { sql: sql.clone(), ..settings }).await;
    let rated = |id: i64, divisor: i64| event("RATED", "c", &json!({"ID": id, "DIVISOR": divisor}));
    let mut events = vec![rated(1, 4)];
    events.extend((2..40).map(|id| rated(id, 0)));
    events.push(rated(40, 5));
    shop.replay("events", (&events, 100)).await;
    let log = std::fs::read_to_string(shop.stack.folder().join("run.log")).expect("a log");
    assert!(log.contains("its result waits, the others go on"), "{log}");
    let diverted =
        shop.number("SELECT count(*) FROM cdc_dlq WHERE error_type = 'QUERY_FAILED'").await;
    assert_eq!(diverted, 20, "and no more");
    let zeros = 38 - diverted;
    check(&shop, &[(ALL_RATES, "1|25"), (ALL_COUNTS, &format!("0|{zeros}, 4|1, 5|1"))]).await;

    // A start finds rows that make it fail in its tables.
    events.push(rated(41, 4));
    shop.replay("events", (&events, 100)).await;
    check(&shop, &[(ALL_RATES, "1|25"), (ALL_COUNTS, &format!("0|{zeros}, 4|2, 5|1"))]).await;

    // Corrected, it is written whole, and so is what reads it.
    let corrected = RATES.replace("FROM rated", "FROM rated WHERE divisor <> 0");
    std::fs::write(sql.join("transforms/rates.sql"), corrected).expect("an edit");
    events.push(rated(42, 2));
    shop.replay("events", (&events, 100)).await;
    let whole = "1|25, 40|20, 41|25, 42|50";
    check(&shop, &[(ALL_RATES, whole), ("SELECT id, rate FROM over_rates ORDER BY id", whole)])
        .await;
    shop.stack.stop().await.expect("the servers end");
}
