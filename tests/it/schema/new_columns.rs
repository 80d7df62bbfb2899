//! Columns that appear in tables with `new_columns = 'alter'`: the landing table gets them, and goes on without
//! them where it can't.

use std::path::{Path, PathBuf};

use tidemark_dev::stack::Settings;

use crate::shop::{Shop, copied_sql};

/// By name, as a column that no file declares; a text, because its type changes.
const POINTS: &str = "-- writes: postgres points\n-- key: customer_id\n\
    SELECT customer_id, CAST(points AS VARCHAR) AS points FROM customers WHERE points IS NOT NULL\n";
const SHOWN: &str =
    "SELECT string_agg(customer_id || ' ' || points, ', ' ORDER BY customer_id) FROM points";
const COLUMNS: &str = "SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) \
    FROM information_schema.columns WHERE table_name = 'cdc_customers' AND column_name ~ '^(points|note|later)'";
const JOURNAL: &str = "SELECT string_agg(column_name || ' ' || seen_type, ', ' ORDER BY id) \
    FROM tidemark_schema_changes WHERE change = 'altered'";
const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// A type of Kafka Connect, and a value of it.
const BIGINT: &str = r#""type":"int64""#;
const TEXT: &str = r#""type":"string""#;

fn decimal() -> String {
    format!(r#""type":"bytes","name":"{DECIMAL}","parameters":{{"scale":"2"}}"#)
}

/// A customer with a field POINTS, whose type its schema section names, and more fields without one.
fn customer(id: u32, points: Option<(&str, &str)>, more: &str) -> String {
    let field = |name: &str, node: &str| format!(r#"{{"field":"{name}",{node}}}"#);
    let mut fields = vec![field("CUSTOMER_ID", BIGINT), field("NAME", TEXT)];
    let mut row = format!(r#""CUSTOMER_ID":{id},"NAME":"N""#);
    if let Some((node, value)) = points {
        fields.push(field("POINTS", node));
        row.push_str(&format!(r#","POINTS":{value}"#));
    }
    let section = format!(
        r#"{{"type":"struct","fields":[{{"field":"after","type":"struct","fields":[{}]}}]}}"#,
        fields.join(",")
    );
    format!(
        r#"{{"schema":{section},"payload":{{"before":null,"after":{{{row}{more}}},"source":{{"ts_ms":1706000000000,"schema":"SALES","table":"CUSTOMERS"}},"op":"c"}}}}"#
    )
}

/// A shop whose customers take new columns, and the file that its processor reads.
async fn opened(policy: &str) -> (Shop, tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    set_policy(&sql, "ttl = ", &format!("new_columns = '{policy}', ttl = "));
    std::fs::write(sql.join("transforms/points.sql"), POINTS).expect("a file");
    let shop = Shop::open_with(|settings| Settings { sql, ..settings }).await;
    let events = folder.path().join("events.ndjson");
    shop.read_file(&events, "");
    (shop, folder, events)
}

fn set_policy(sql: &Path, from: &str, to: &str) {
    let path = sql.join("tables/customers.sql");
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).expect("a file");
}

/// The processor reads the file to its end.
async fn run(shop: &Shop, events: &Path, lines: &[String]) {
    std::fs::write(events, lines.join("\n")).expect("events");
    let mut processor = shop.stack.processor(None).expect("a processor");
    assert!(shop.wait_for_end(&mut processor).await, "{}", shop.log_tail("run"));
}

async fn check(shop: &Shop, expected: &[(&str, &str)]) {
    for (sql, expected) in expected {
        let rows = shop.query(sql).await;
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
        let line = |row: &Vec<Option<String>>| row.iter().map(value).collect::<Vec<_>>().join("|");
        let shown = rows.iter().map(line).collect::<Vec<_>>().join("\n");
        assert_eq!(shown, *expected, "{sql}\n{}", shop.log_tail("run"));
    }
}

fn alerts(shop: &Shop) -> usize {
    let log = std::fs::read_to_string(shop.stack.folder().join("run.log")).expect("a log");
    log.lines().filter(|line| line.contains("alert=\"alter_failed\"")).count()
}

/// Who wants no more columns still has those that are there.
async fn no_more_columns_are_wanted(
    (shop, folder, events): (&Shop, &tempfile::TempDir, &Path),
    lines: &mut Vec<String>,
) {
    set_policy(&folder.path().join("sql"), "'alter'", "'jsonb'");
    lines.push(customer(8, Some((TEXT, "\"none\"")), r#","LATER":1"#));
    run(shop, events, lines).await;
    check(
        shop,
        &[
            (COLUMNS, "points numeric, note jsonb, points__v2 jsonb"),
            (
                "SELECT points__v2, extra_fields FROM cdc_customers WHERE customer_id = 8",
                "\"none\"|{\"LATER\": 1}",
            ),
            ("SELECT count(*) FROM points", "8"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_new_column_is_one_of_the_landing_table_widens_and_has_a_second_version() {
    let (shop, folder, events) = opened("alter").await;
    let decimal = decimal();
    let mut lines = vec![
        customer(1, Some((BIGINT, "5")), r#","NOTE":{"a":[1]},"EVENT_ID":"own""#),
        customer(2, Some((BIGINT, "6")), r#","NOTE":"n""#),
    ];
    run(&shop, &events, &lines).await;
    lines.push(customer(3, Some((BIGINT, "7")), r#","NOTE":[2],"LATER":null"#));
    run(&shop, &events, &lines).await;
    check(
        &shop,
        &[
            (COLUMNS, "points bigint, note jsonb"),
            (JOURNAL, "points int8, note json"),
            // The first events have shown the columns, so they landed without.
            (
                "SELECT points, note, extra_fields FROM cdc_customers WHERE customer_id = 3",
                "7|[2]|{\"LATER\": null}",
            ),
            ("SELECT count(*) FROM cdc_customers WHERE extra_fields ? 'EVENT_ID'", "1"),
            (SHOWN, "1 5, 2 6, 3 7"),
        ],
    )
    .await;

    // BOI= is 12.50: the type widens without loss.
    lines.push(customer(4, Some((&decimal, "\"BOI=\"")), ""));
    run(&shop, &events, &lines).await;
    lines.push(customer(5, Some((&decimal, "\"BOI=\"")), ""));
    run(&shop, &events, &lines).await;
    check(
        &shop,
        &[
            (COLUMNS, "points numeric, note jsonb"),
            (JOURNAL, "points int8, note json, points numeric(38,2)"),
            (
                "SELECT points FROM cdc_customers WHERE customer_id IN (3, 5) ORDER BY 1",
                "7.00\n12.50",
            ),
            (SHOWN, "1 5.00, 2 6.00, 3 7.00, 4 12.50, 5 12.50"),
        ],
    )
    .await;

    // A text is no number: the old column stays as it is.
    lines.push(customer(6, Some((TEXT, "\"many\"")), ""));
    run(&shop, &events, &lines).await;
    lines.push(customer(7, Some((TEXT, "\"few\"")), ""));
    run(&shop, &events, &lines).await;
    check(&shop, &[
        (COLUMNS, "points numeric, note jsonb, points__v2 jsonb"),
        (JOURNAL, "points int8, note json, points numeric(38,2), points__v2 json"),
        ("SELECT points, points__v2 FROM cdc_customers WHERE customer_id = 7", "NULL|\"few\""),
        ("SELECT count(*) FROM cdc_customers WHERE customer_id = 5 AND points = 12.50", "1"),
        ("SELECT string_agg(customer_id::text, ',' ORDER BY 1) FROM points WHERE points !~ '^[0-9.]+$'", "6,7"),
        ("SELECT count(*) FROM points", "7"),
        ("SELECT count(*) FROM cdc_dlq", "0"),
    ])
    .await;

    no_more_columns_are_wanted((&shop, &folder, &events), &mut lines).await;
    assert_eq!(alerts(&shop), 0);
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn without_the_column_everything_goes_on_and_it_is_tried_again() {
    let (shop, _folder, events) = opened("alter").await;
    // The landing table is there before anything is read.
    run(&shop, &events, &[customer(1, None, "")]).await;

    // Another session reads the table and does not end.
    let (client, connection) =
        tokio_postgres::connect(&shop.stack.postgres.url(), tokio_postgres::NoTls)
            .await
            .expect("Postgres");
    tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT count(*) FROM cdc_customers").await.expect("a lock");
    let mut lines = vec![customer(1, None, ""), customer(2, Some((BIGINT, "5")), "")];
    run(&shop, &events, &lines).await;
    let none = [(COLUMNS, "NULL"), (JOURNAL, "NULL"), (SHOWN, "2 5")];
    check(&shop, &none).await;
    assert!(alerts(&shop) > 0);
    client.batch_execute("COMMIT").await.expect("an end");

    // Nobody may alter tables.
    shop.query(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no DDL here' USING ERRCODE = '42501'; END $$",
    )
    .await;
    shop.query("CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION refuse()")
        .await;
    let before = alerts(&shop);
    lines.push(customer(3, Some((BIGINT, "6")), ""));
    run(&shop, &events, &lines).await;
    check(&shop, &[(COLUMNS, "NULL"), (JOURNAL, "NULL"), (SHOWN, "2 5, 3 6")]).await;
    assert!(alerts(&shop) > before);

    shop.query("DROP EVENT TRIGGER refuse").await;
    lines.push(customer(4, Some((BIGINT, "7")), ""));
    run(&shop, &events, &lines).await;
    check(
        &shop,
        &[
            (COLUMNS, "points bigint"),
            (JOURNAL, "points int8"),
            ("SELECT points FROM cdc_customers WHERE customer_id = 4", "7"),
            (SHOWN, "2 5, 3 6, 4 7"),
        ],
    )
    .await;
    shop.stack.stop().await.expect("the servers end");
}
