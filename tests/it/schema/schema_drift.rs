//! Tables that change while the processor runs: the scenarios S1 to S10, by files into PostgreSQL.

use tidemark_dev::stack::Settings;

use crate::shop::{Shop, copied_sql};

/// A scenario: events, and what PostgreSQL shows after them.
struct Case {
    name: &'static str,
    events: Vec<String>,
    shown: Vec<(String, &'static str)>,
}

fn event(table: &str, after: &str) -> String {
    format!(
        r#"{{"before":null,"after":{after},"source":{{"ts_ms":1706000000000,"schema":"SALES","table":"{table}"}},"op":"c"}}"#
    )
}

/// A customer with all declared columns, and more.
fn customer(id: u32, more: &str) -> String {
    let declared = r#""NAME":"N","EMAIL":"E","TIER":"GOLD","REGION":"R","CREATED_AT":0"#;
    event("CUSTOMERS", &format!(r#"{{"CUSTOMER_ID":{id},{declared}{more}}}"#))
}

/// A product, with STOCK_QTY as it stands here.
fn product(id: u32, stock_qty: &str) -> String {
    let declared = r#""NAME":100,"CATEGORY":"C","PRICE":"1.50","IS_ACTIVE":1"#;
    event("PRODUCTS", &format!(r#"{{"PRODUCT_ID":{id},"STOCK_QTY":{stock_qty},{declared}}}"#))
}

fn of_customer(columns: &str, id: u32) -> String {
    format!("SELECT {columns} FROM cdc_customers WHERE customer_id = {id}")
}

/// What the registry has about columns.
fn registry(columns: &str) -> String {
    format!(
        "SELECT string_agg(column_name || ' ' || change || ' ' || seen_type, ', ' ORDER BY id) \
         FROM tidemark_schema_changes WHERE column_name IN ({columns})"
    )
}

fn letters(condition: &str) -> String {
    format!("SELECT count(*) FROM cdc_dlq WHERE {condition}")
}

fn cases() -> Vec<Case> {
    vec![s1(), s2(), s3(), s4(), s5(), s7(), renamed(), s9(), s10(), strict()]
}

fn s1() -> Case {
    Case {
        name: "S1: a column is added",
        events: vec![
            customer(101, r#","LOYALTY_POINTS":5"#),
            customer(102, r#","LOYALTY_POINTS":6"#),
        ],
        shown: vec![
            (of_customer("name, extra_fields->>'LOYALTY_POINTS'", 101), "N|5"),
            (of_customer("extra_fields->>'LOYALTY_POINTS'", 102), "6"),
            (registry("'LOYALTY_POINTS'"), "LOYALTY_POINTS added integer"),
        ],
    }
}

fn s2() -> Case {
    let without_email = |id: u32| customer(id, "").replace(r#""EMAIL":"E","#, "");
    Case {
        name: "S2: a column is missing",
        events: vec![without_email(201), without_email(202)],
        shown: vec![
            (of_customer("name, email", 201), "N|NULL"),
            (of_customer("name, email", 202), "N|NULL"),
            (registry("'email'"), "email missing null"),
        ],
    }
}

fn s3() -> Case {
    Case {
        name: "S3: three columns at once",
        events: vec![
            customer(301, r#","A3":"x","B3":1.50,"C3":null"#),
            customer(302, r#","C3":true"#),
        ],
        shown: vec![
            (of_customer("extra_fields", 301), r#"{"A3": "x", "B3": 1.50, "C3": null}"#),
            (of_customer("extra_fields", 302), r#"{"C3": true}"#),
            (
                registry("'A3','B3','C3'"),
                "A3 added text, B3 added number, C3 added null, C3 widened boolean",
            ),
        ],
    }
}

fn s4() -> Case {
    let digits = "9".repeat(40);
    let of = |id: u32| format!("SELECT stock_qty, name FROM cdc_products WHERE product_id = {id}");
    let refused = |value: &str| {
        letters(&format!(
            "error_type = 'SCHEMA_MISMATCH' AND error_message LIKE '%column stock_qty%{value}%'"
        ))
    };
    Case {
        name: "S4: values of another type",
        events: vec![
            product(401, r#""100""#),
            product(402, "1.0"),
            product(403, &digits),
            product(404, "1.5"),
            product(405, r#""ten""#),
        ],
        shown: vec![
            (of(401), "100|100"),
            (of(402), "1|100"),
            (refused(&digits), "1"),
            (refused("1.5"), "1"),
            (refused("ten"), "1"),
            ("SELECT count(*) FROM cdc_products WHERE product_id BETWEEN 403 AND 405".into(), "0"),
        ],
    }
}

fn s5() -> Case {
    Case {
        name: "S5: nested JSON",
        events: vec![customer(501, r#","ADDRESS":{"city":"Zürich","zip":[8001]}"#)],
        shown: vec![
            (of_customer("jsonb_typeof(extra_fields->'ADDRESS')", 501), "object"),
            (of_customer("extra_fields->'ADDRESS'->'zip'->0", 501), "8001"),
            ("SELECT city FROM cities WHERE customer_id = 501".into(), "Zürich"),
            (registry("'ADDRESS'"), "ADDRESS added json"),
        ],
    }
}

fn s7() -> Case {
    Case {
        name: "S7: a column has another name",
        events: vec![customer(701, "").replace("\"TIER\"", "\"LEVEL\"")],
        shown: vec![
            (of_customer("tier, extra_fields->>'LEVEL'", 701), "NULL|GOLD"),
            (registry("'LEVEL','tier'"), "LEVEL added text, tier missing null"),
        ],
    }
}

fn renamed() -> Case {
    let message = r#"{"source":{"schema":"SALES","table":"PRODUCTS"},"databaseName":"ORCL","ddl":"ALTER TABLE SALES.PRODUCTS RENAME COLUMN CATEGORY TO KIND","tableChanges":[{"type":"ALTER","id":"\"ORCL\".\"SALES\".\"PRODUCTS\"","table":{"columns":[{"name":"KIND","typeName":"VARCHAR2","length":20},{"name":"WEIGHT","typeName":"NUMBER","length":9,"scale":0}]}}]}"#;
    Case {
        name: "S7: a schema-change message names a rename",
        events: vec![
            message.to_owned(),
            product(751, "1").replace("\"CATEGORY\"", "\"WEIGHT\":5,\"KIND\""),
        ],
        shown: vec![
            (
                "SELECT category, extra_fields->>'KIND' FROM cdc_products WHERE product_id = 751"
                    .into(),
                "NULL|C",
            ),
            (
                registry("'CATEGORY -> KIND','KIND','WEIGHT','category'"),
                "CATEGORY -> KIND renamed null, KIND added varchar, WEIGHT added int8, category missing null",
            ),
        ],
    }
}

fn s9() -> Case {
    let versions = [r#","FLIP":1,"FLOP":"a""#, r#","FLOP":1.5,"FLIP":2"#];
    let events = (0..2000).map(|at| customer(10_000 + at, versions[at as usize % 2])).collect();
    Case {
        name: "S9: two versions take turns",
        events,
        shown: vec![
            ("SELECT count(*) FROM cdc_customers WHERE customer_id >= 10000".into(), "2000"),
            (registry("'FLIP','FLOP'"), "FLIP added integer, FLOP added text, FLOP widened json"),
        ],
    }
}

fn s10() -> Case {
    let columns: String = (0..5000).map(|at| format!(r#","X{at}":1"#)).collect();
    let nested = |levels: usize| format!(r#","DEEP":{}{}"#, "[".repeat(levels), "]".repeat(levels));
    let digits = "1".repeat(40);
    Case {
        name: "S10: beyond the limits",
        events: vec![
            customer(1001, &columns),
            customer(1002, &format!(r#","BIG":"{}""#, "x".repeat(10_000_000))),
            customer(1003, &format!(r#","BIG":"{}""#, "x".repeat(2_000_000))),
            customer(1004, &nested(200)),
            customer(1005, &nested(100_000)),
            customer(1006, r#","HALF":"\ud800""#),
            customer(1007, r#","NUL":"\u0000""#),
            customer(1008, r#","HUGE":1e999999"#),
            customer(1009, r#","TWICE":1,"TWICE":2,"NAME":"last""#),
            customer(1010, &format!(r#","DIGITS":{digits}"#)),
        ],
        shown: vec![
            (
                "SELECT string_agg(customer_id::text, ',' ORDER BY 1) FROM cdc_customers \
                 WHERE customer_id BETWEEN 1001 AND 1010"
                    .into(),
                "1009,1010",
            ),
            (of_customer("name, extra_fields", 1009), r#"last|{"TWICE": 2}"#),
            (
                of_customer("extra_fields->>'DIGITS'", 1010),
                "1111111111111111111111111111111111111111",
            ),
            (
                letters(
                    "error_type = 'TOO_MANY_COLUMNS' AND error_message LIKE '%max_undeclared_columns (1000)%'",
                ),
                "1",
            ),
            (
                letters("error_type = 'EVENT_TOO_LARGE' AND length(original_payload) > 10000000"),
                "1",
            ),
            (letters("error_type = 'UNDECLARED_TOO_LARGE'"), "1"),
            (letters("error_type = 'TOO_DEEP' AND error_message LIKE '%DEEP%'"), "2"),
            (letters("error_type = 'SCHEMA_MISMATCH' AND error_message ~ 'HALF|NUL|HUGE'"), "3"),
            (
                "SELECT count(*) FROM tidemark_schema_changes WHERE column_name LIKE 'X%'".into(),
                "0",
            ),
        ],
    }
}

fn strict() -> Case {
    Case {
        name: "a table that takes no new columns",
        events: vec![
            event("AUDIT_LOG", r#"{"LOG_ID":1,"NEW":1}"#),
            event("AUDIT_LOG", r#"{"LOG_ID":2}"#),
        ],
        shown: vec![
            ("SELECT string_agg(log_id::text, ',') FROM cdc_audit_log".into(), "2"),
            (letters("error_message LIKE '%column NEW is not declared%strict%'"), "1"),
        ],
    }
}

/// Rows with `|` between the values, and lines between the rows.
async fn shown(shop: &Shop, sql: &str) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let line = |row: &Vec<Option<String>>| row.iter().map(value).collect::<Vec<_>>().join("|");
    shop.query(sql).await.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn log(shop: &Shop) -> Vec<String> {
    let text = std::fs::read_to_string(shop.stack.folder().join("run.log")).expect("a log");
    let lines = text.lines().filter(|line| line.contains("[SCHEMA_CHANGE]"));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn tables_may_change_while_the_processor_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let cities = "-- writes: postgres cities\nSELECT customer_id, extra_fields->'ADDRESS'->>'city' AS city \
        FROM customers_changes\n";
    std::fs::write(sql.join("transforms/cities.sql"), cities).expect("a file");
    let audit = sql.join("tables/audit_log.sql");
    let text = std::fs::read_to_string(&audit).expect("a file");
    let strict = text.replace("ttl = '1h'", "ttl = '1h', new_columns = 'strict'");
    std::fs::write(&audit, strict).expect("a file");
    let shop = Shop::open_with(|settings| Settings { sql, ..settings }).await;
    let events = folder.path().join("events.ndjson");
    shop.read_file(&events, "[limits]\nmax_event_bytes = 8388608\n\n");

    let cases = cases();
    let mut lines: Vec<String> =
        cases.iter().flat_map(|case| case.events.iter().cloned()).collect();
    run(&shop, &events, &lines).await;
    check(&shop, &cases).await;
    let told = log(&shop);
    for (column, alerts) in [("LOYALTY_POINTS integer", 1), ("FLOP", 2), ("email", 0)] {
        let of_column = || told.iter().filter(|line| line.contains(column));
        assert_eq!(of_column().count(), alerts.max(1), "{column}: {told:?}");
        let is_alert = |line: &&String| line.contains("alert=\"schema_change\"");
        assert_eq!(of_column().filter(is_alert).count(), alerts, "{column}: {told:?}");
    }
    assert!(told.len() < 20, "{} lines", told.len());

    // What was learned is known after a restart, and in the checkpoints.
    lines.push(customer(901, r#","LOYALTY_POINTS":7,"AFTER":1"#));
    run(&shop, &events, &lines).await;
    check(&shop, &cases).await;
    let registry = registry("'AFTER','LOYALTY_POINTS'");
    assert_eq!(shown(&shop, &registry).await, "LOYALTY_POINTS added integer, AFTER added integer");
    let new = &log(&shop)[told.len()..];
    assert!(new.len() == 1 && new[0].contains("AFTER integer"), "{new:?}");
    let file = shop.stack.checkpoints().join("schema/sales.parquet");
    assert!(file.is_file(), "{} is not there", file.display());
    shop.stack.stop().await.expect("the servers end");
}

/// The processor reads the file to its end.
async fn run(shop: &Shop, events: &std::path::Path, lines: &[String]) {
    std::fs::write(events, lines.join("\n")).expect("events");
    let mut processor = shop.stack.processor(None).expect("a processor");
    assert!(shop.wait_for_end(&mut processor).await, "{}", shop.log_tail("run"));
}

async fn check(shop: &Shop, cases: &[Case]) {
    for case in cases {
        for (sql, expected) in &case.shown {
            assert_eq!(shown(shop, sql).await, *expected, "{}: {sql}", case.name);
        }
    }
}
