//! What `tidemark try` prints.

use super::*;
use crate::decode::UnknownTables;

const TABLES: &str =
    "CREATE TABLE orders (id BIGINT PRIMARY KEY, amount INTEGER) WITH (source = 'S.ORDERS')";
const SHARES: &str =
    "-- writes: postgres shares\n-- key: id\nSELECT id, 100 / amount AS share FROM orders";

fn event(id: u64, amount: &str, more: &str) -> String {
    format!(
        r#"{{"op":"c","before":null,"after":{{"ID":{id},"AMOUNT":{amount}{more}}},"source":{{"schema":"S","table":"ORDERS"}}}}"#
    )
}

/// What a try of these lines says.
async fn tried(lines: &[String], json: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in [("tables/orders.sql", TABLES), ("transforms/shares.sql", SHARES)] {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let path = folder.path().join("events.ndjson");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let sql = load_sql_with(folder.path(), &[], UnknownTables::default()).await.unwrap();
    let arguments = Arguments {
        count: 100,
        events: Some(path),
        config: None,
        sql: None,
        rows: 2,
        wait: Duration::from_secs(1).into(),
        json,
    };
    let (messages, _) = messages(&arguments, None).await.unwrap();
    let mut rehearsal = DryRun::start_with(&sql, DecodeConfig::default()).await.unwrap();
    let learned = rehearsal.feed_messages(messages).await.unwrap();
    let outcome = render::TriedSql { sql: &sql, rehearsal: &rehearsal, learned, schema: "public" };
    if json { outcome.json().unwrap() } else { outcome.text(arguments.rows).unwrap() }
}

#[tokio::test]
async fn rows_statements_new_columns_and_dead_letters_are_told() {
    let lines = [
        event(1, "10", ""),
        event(2, "0", ""),
        event(3, "\"x\"", ""),
        event(4, "4", ",\"COUPON\":\"A\""),
        event(5, "5", ""),
        "{\"op\"".to_owned(),
    ];
    let text = tried(&lines, false).await;
    assert!(
        text.contains("shares (shares), 3 rows\n  id  share\n  1   10\n  4   25\n  ... 1 more"),
        "{text}"
    );
    assert!(text.contains("CREATE TABLE IF NOT EXISTS \"public\".\"shares\""), "{text}");
    assert!(text.contains("S.ORDERS.COUPON is not declared (text)"), "{text}");
    assert!(text.contains("3 would be dead letters"), "{text}");
    for kind in ["QUERY_FAILED", "SCHEMA_MISMATCH", "MALFORMED_JSON"] {
        assert!(text.contains(kind), "{text}");
    }
    let lines = tried(&lines, true).await;
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows: Vec<&serde_json::Value> =
        lines.iter().filter(|line| line["result"] == "shares").map(|line| &line["row"]).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2], &serde_json::json!({"id": "5", "share": "20"}));
    assert_eq!(lines.iter().filter(|line| line["dead_letter"].is_string()).count(), 3);
}

#[tokio::test]
async fn without_a_file_or_a_configuration_nothing_is_tried() {
    let arguments = Arguments {
        count: 1,
        events: None,
        config: None,
        sql: None,
        rows: 1,
        wait: Duration::from_secs(1).into(),
        json: false,
    };
    assert!(messages(&arguments, None).await.unwrap_err().to_string().contains("--events"));
}
