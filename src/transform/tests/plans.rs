//! `sql/transforms`: order, names, keys, and everything that is refused at start.

use std::time::Duration;

use arrow::datatypes::{DataType, TimeUnit};

use super::{Maintenance, ORDERS, file, planned, problem, problems, tables};
use crate::model::{ResultMode, Window};
use crate::transform::{PlanRequest, Transforms, parse_tables};

const TOTALS: &str = "-- writes: postgres cdc_totals\n-- key: customer_id\n\
    SELECT customer_id, sum(amount) AS total FROM orders GROUP BY customer_id";

fn reading(table: &str, target: &str) -> String {
    format!("-- writes: postgres {target}\n-- key: customer_id\nSELECT customer_id FROM {table}")
}

#[tokio::test]
async fn a_file_runs_after_those_that_it_reads_whatever_their_names() {
    for (first, second, third) in
        [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a"), ("b", "a", "c")]
    {
        let (x, y) = (reading(first, "t2"), reading(second, "t3"));
        let mut files = [(first, TOTALS), (second, x.as_str()), (third, y.as_str())];
        files.sort();
        let transforms = planned(&files).await;
        let order: Vec<&str> = transforms.results().map(|result| result.name.as_str()).collect();
        assert_eq!(order, [first, second, third]);
    }
}

#[tokio::test]
async fn explain_says_how_each_file_is_maintained() {
    let appended = "-- writes: postgres cdc_log\nSELECT event_id, order_id FROM orders_changes";
    let transforms = planned(&[("log", appended), ("totals", TOTALS)]).await;
    let said: Vec<String> = transforms.explain().map(|(_, how)| how.to_string()).collect();
    assert_eq!(
        said,
        ["append: reads changes only", "by group: groups of rows that change, no look-ups"]
    );
}

#[tokio::test]
async fn a_circle_is_refused_with_the_names_of_its_files() {
    let (a, b, c) = (reading("b", "ta"), reading("a", "tb"), reading("b", "tc"));
    let said = problems(&[("a", &a), ("b", &b), ("c", &c), ("totals", TOTALS)]).await;
    assert_eq!(
        said,
        [
            "a.sql: is part of a circle, or reads one: it needs b",
            "b.sql: is part of a circle, or reads one: it needs a",
            "c.sql: is part of a circle, or reads one: it needs b",
        ]
    );
    let itself = problem(&reading("x", "t")).await;
    assert!(itself.starts_with("x.sql: reads itself"), "{itself}");
}

#[tokio::test]
async fn an_unknown_table_or_column_is_refused_with_its_place() {
    let table = problem("-- writes: postgres t\n-- key: id\nSELECT id\nFROM nowhere").await;
    assert!(table.starts_with("x.sql:4:6: ") && table.contains("nowhere"), "{table}");
    let column = problem(
        "-- writes: postgres t\n-- key: a\nSELECT order_id AS a,\n  colour AS b\nFROM orders",
    )
    .await;
    assert!(column.starts_with("x.sql:4:3: ") && column.contains("colour"), "{column}");
    let syntax = problem("-- writes: postgres t\n-- key: a\nSELECT a b c FROM orders").await;
    assert!(syntax.starts_with("x.sql:3:12: "), "{syntax}");
}

#[tokio::test]
async fn who_reads_a_wrong_file_is_not_blamed() {
    let broken = reading("nowhere", "t1");
    let said = problems(&[
        ("a", &broken),
        ("b", &reading("a", "t2")),
        ("c", "SELECT"),
        ("d", &reading("c", "t4")),
    ])
    .await;
    let blamed: Vec<&str> = said.iter().map(|error| &error[..5]).collect();
    assert_eq!(blamed, ["c.sql", "a.sql"], "{said:?}");
}

#[tokio::test]
async fn a_file_without_target_or_with_a_taken_one_is_refused() {
    let none = problem("SELECT order_id FROM orders").await;
    assert!(none.contains("has no `-- writes:` line"), "{none}");
    let twin = problems(&[("a", TOTALS), ("b", TOTALS)]).await;
    assert_eq!(twin, ["b.sql: writes cdc_totals, which a writes already"]);
    let landing = problem(&reading("orders", "cdc_orders")).await;
    assert_eq!(landing, "x.sql: writes cdc_orders, where the changes of orders land");
}

#[tokio::test]
async fn a_file_with_the_name_of_a_table_is_refused() {
    for name in ["orders", "orders_changes"] {
        let said = problems(&[(name, &reading("customers", "t"))]).await;
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("is that of a table; rename the file"), "{said:?}");
    }
}

#[tokio::test]
async fn the_key_is_among_the_columns_of_the_result() {
    let said = problem(
        "-- writes: postgres t\n-- key: order_id, line\nSELECT order_id, amount FROM orders",
    )
    .await;
    assert_eq!(said, "x.sql: key column line is not among the columns order_id, amount");
    let twins = "-- writes: postgres t\n-- key: order_id\n\
        SELECT o.order_id, o.customer_id, c.customer_id FROM orders o JOIN customers c ON c.customer_id = o.customer_id";
    assert_eq!(problem(twins).await, "x.sql: has two columns customer_id: rename one with AS");
}

#[tokio::test]
async fn anything_but_one_select_is_refused() {
    for text in [
        "CREATE TABLE a AS SELECT order_id FROM orders",
        "INSERT INTO orders SELECT * FROM orders",
        "DELETE FROM orders",
        "DROP TABLE orders",
        "COPY (SELECT order_id FROM orders) TO 'orders.csv'",
        "EXPLAIN SELECT order_id FROM orders",
        "SET datafusion.execution.batch_size = 1",
    ] {
        let said = problem(&format!("-- writes: postgres t\n-- key: order_id\n{text}")).await;
        assert_eq!(said, "x.sql: must be one SELECT", "{text}");
    }
    let two = problem("-- writes: postgres t\n-- key: a\nSELECT 1 AS a; SELECT 2 AS a").await;
    assert!(two.contains("single SQL statement"), "{two}");
}

#[tokio::test]
async fn changes_are_appended_and_current_rows_have_a_key() {
    let both = "-- writes: postgres t\n-- key: event_id\nSELECT c.event_id FROM orders_changes c \
        JOIN customers k ON k.customer_id = c.customer_id";
    let said = problem(both).await;
    assert!(said.starts_with("x.sql: reads both orders_changes and customers: "), "{said}");
    let keyed =
        problem("-- writes: postgres t\n-- key: event_id\nSELECT event_id FROM orders_changes")
            .await;
    assert!(keyed.contains("drop the `-- key:` line"), "{keyed}");
    let keyless = problem("-- writes: postgres t\nSELECT order_id FROM orders").await;
    assert!(keyless.contains("needs a `-- key: COLUMN, ...` line"), "{keyless}");
}

#[tokio::test]
async fn what_is_appended_is_changes_to_those_who_read_it() {
    let log = "-- writes: postgres cdc_log\nSELECT event_id, customer_id FROM orders_changes";
    let said = problems(&[("log", log), ("x", &reading("log", "t"))]).await;
    assert_eq!(said, ["x.sql: reads changes only, which are appended: drop the `-- key:` line"]);
    let of_log = "-- writes: postgres cdc_log2\nSELECT event_id FROM log";
    let transforms = planned(&[("log", log), ("log2", of_log)]).await;
    assert!(transforms.explain().all(|(_, how)| *how == Maintenance::Append));
}

#[tokio::test]
async fn a_function_with_another_value_at_another_time_is_refused() {
    for call in ["now()", "current_timestamp", "current_date", "random()", "uuid()"] {
        let said = problem(&format!(
            "-- writes: postgres t\n-- key: order_id\nSELECT order_id, {call} AS x FROM orders"
        ))
        .await;
        assert!(said.contains("whose value depends on when it runs"), "{call}: {said}");
    }
    let fine = "-- writes: postgres t\n-- key: order_id\nSELECT order_id, date_trunc('day', order_date) AS a, \
        to_timestamp('2024-01-01') AS b, order_date < watermark() AS c FROM orders";
    planned(&[("x", fine)]).await;
}

#[tokio::test]
async fn results_have_one_type_per_kind_of_value() {
    let text = "-- writes: postgres t\n-- key: b, a\nSELECT order_id AS a, upper('x') AS b, \
        arrow_cast(order_date, 'Timestamp(Nanosecond, None)') AS c, count(*) AS d FROM orders GROUP BY 1, 2, 3";
    let transforms = planned(&[("x", text)]).await;
    let result = transforms.results().next().unwrap();
    let types: Vec<&DataType> = result.schema.fields().iter().map(|f| f.data_type()).collect();
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(types, [&DataType::Int64, &DataType::Utf8, &micros, &DataType::Int64]);
    assert_eq!(result.mode, ResultMode::Keyed { key: vec![1, 0] });
}

/// A result per window of `orders`.
fn windows(window: &str, table: &str, target: &str) -> String {
    format!(
        "-- writes: postgres {target}\n-- key: start\nSELECT {window} AS start, \
         count(*) AS n, max(order_date) AS order_date FROM {table} GROUP BY 1"
    )
}

fn bin(interval: &str) -> String {
    format!("date_bin(INTERVAL '{interval}', order_date, TIMESTAMP '1970-01-01 00:00:00')")
}

const HOUR: Duration = Duration::from_secs(3600);

/// The length of the longest window.
fn longest(transforms: &Transforms, table: &str) -> Option<Duration> {
    let lengths = transforms.windows(table).into_iter().map(|window| window.length);
    lengths.max().map(|micros| Duration::from_micros(micros.unsigned_abs()))
}

#[tokio::test]
async fn the_windows_of_a_table_are_known_with_their_alignment() {
    const HOUR: i64 = 3_600_000_000;
    let other_origin = bin("2 hours").replace("1970-01-01 00:00:00", "1970-01-01 00:30:00");
    for (window, length, origin) in [
        (bin("5 minutes"), HOUR / 12, Some(0)),
        (other_origin, 2 * HOUR, Some(HOUR / 2)),
        ("date_bin(INTERVAL '1 hour', order_date)".to_owned(), HOUR, Some(0)),
        (bin("1 month"), 31 * 24 * HOUR, None),
        ("date_trunc('day', order_date)".to_owned(), 24 * HOUR, Some(0)),
        ("date_trunc('week', order_date)".to_owned(), 7 * 24 * HOUR, Some(4 * 24 * HOUR)),
        ("date_trunc('year', order_date)".to_owned(), 366 * 24 * HOUR, None),
    ] {
        let transforms = planned(&[("a", &windows(&window, "orders", "t1"))]).await;
        assert_eq!(transforms.windows("orders"), [Window { length, origin }], "{window}");
    }
}

#[tokio::test]
async fn the_span_of_a_table_is_its_longest_window() {
    for (window, hours) in [
        (bin("60 minutes"), 1),
        (bin("1 day"), 24),
        (bin("1 month"), 31 * 24),
        ("date_trunc('week', order_date)".to_owned(), 7 * 24),
    ] {
        let (shorter, longer) =
            (windows(&bin("5 minutes"), "orders", "t1"), windows(&window, "orders", "t2"));
        let transforms = planned(&[("a", &longer), ("b", &shorter)]).await;
        assert_eq!(longest(&transforms, "orders"), Some(HOUR * hours), "{window}");
        assert_eq!(longest(&transforms, "customers"), None);
    }
}

#[tokio::test]
async fn a_column_counts_as_read_if_any_query_reads_it() {
    let read = async |files: &[(&str, &str)]| -> Vec<String> {
        let transforms = planned(files).await;
        let tables = parse_tables(&[file("orders", ORDERS)]).unwrap();
        let columns = transforms.columns_read(&tables[0]).into_iter();
        columns.map(|at| tables[0].columns[at].name.clone()).collect()
    };
    let filtered =
        "-- writes: postgres t1\n-- key: order_id\nSELECT order_id FROM orders WHERE amount > 1";
    assert_eq!(read(&[("a", filtered)]).await, ["order_id", "amount"]);
    let changed = "-- writes: postgres t2\nSELECT event_id, order_date FROM orders_changes";
    assert_eq!(
        read(&[("a", filtered), ("b", changed)]).await,
        ["order_id", "order_date", "amount"]
    );
    let whole = "-- writes: postgres t3\n-- key: order_id\nSELECT order_id, (SELECT MAX(customer_id) \
        FROM orders) AS newest FROM orders";
    assert_eq!(read(&[("a", whole)]).await, ["order_id", "customer_id"]);
}

#[tokio::test]
async fn windows_over_a_result_count_for_the_tables_that_it_reads() {
    let a = windows(&bin("1 hour"), "orders", "t1");
    let plain = "-- writes: postgres t2\n-- key: start\nSELECT start, n FROM a";
    let transforms = planned(&[("a", &a), ("b", plain)]).await;
    assert_eq!(longest(&transforms, "orders"), Some(HOUR));

    let wider = windows(&bin("1 day"), "a", "t2");
    let transforms = planned(&[("a", &a), ("b", &wider)]).await;
    assert_eq!(longest(&transforms, "orders"), Some(HOUR * 24));

    let rows = "-- writes: postgres t1\n-- key: order_id\nSELECT order_id, order_date FROM orders";
    let transforms = planned(&[("z", rows), ("b", &windows(&bin("1 day"), "z", "t2"))]).await;
    assert_eq!(longest(&transforms, "orders"), Some(HOUR * 24));
}

#[tokio::test]
async fn a_definition_changes_with_its_text_its_tables_and_what_it_reads() {
    let definitions = async |orders: &str, totals: &str| -> Vec<String> {
        let tables = parse_tables(&[file("orders", orders)]).unwrap();
        let files = [file("totals", totals), file("x", &reading("totals", "t"))];
        let transforms = Transforms::plan(PlanRequest::new(&tables, &files))
            .await
            .unwrap_or_else(|e| panic!("{e:?}"));
        transforms.results().map(|result| result.definition.clone()).collect()
    };
    let before = definitions(ORDERS, TOTALS).await;
    assert_eq!(definitions(ORDERS, TOTALS).await, before);
    let wider = ORDERS.replace("DECIMAL(15,2)", "DECIMAL(16,2)");
    let edited = TOTALS.replace("FROM orders", "FROM orders WHERE amount > 0");
    for (orders, totals) in [(wider.as_str(), TOTALS), (ORDERS, edited.as_str())] {
        let after = definitions(orders, totals).await;
        assert!(before[0] != after[0] && before[1] != after[1], "{after:?}");
    }
}

#[tokio::test]
async fn the_shipped_files_can_be_planned() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sql"));
    let read = |name: &str| crate::transform::read_folder(&folder.join(name)).unwrap();
    let shipped = parse_tables(&read("tables")).unwrap();
    let transforms = Transforms::plan(PlanRequest::new(&shipped, &read("transforms"))).await;
    let transforms = transforms.unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(longest(&transforms, "orders"), Some(HOUR * 24));
    assert!(crate::transform::read_folder(&folder.join("absent")).unwrap().is_empty());
    assert_eq!(tables().len(), 2);
}

#[tokio::test]
async fn a_column_whose_name_postgres_would_cut_off_is_renamed_with_as() {
    let long = "a".repeat(64);
    let text = format!(
        "-- writes: postgres t\n-- key: order_id\nSELECT order_id, amount AS {long} FROM orders"
    );
    let said = problem(&text).await;
    let expected = format!(
        "x.sql:3:28: column {long} has 64 bytes, and PostgreSQL keeps 63 of a name: rename"
    );
    assert!(said.starts_with(&expected), "{said}");
    let said = problem(&text.replace("postgres t", &format!("postgres {}", "t".repeat(64)))).await;
    assert!(said.starts_with("x.sql:1:21: the target ttt"), "{said}");
    // An API has no such limit.
    assert!(problems(&[("x", &text.replace("postgres t", "rest /t"))]).await.is_empty());
}

#[tokio::test]
async fn forms_of_oracle_are_named_with_what_to_write_instead() {
    for (select, says) in [
        ("TRUNC(order_date, 'HH24') AS h", "write date_trunc('hour', order_date)"),
        ("TRUNC(order_date, 'MI') AS h", "write date_trunc('minute', order_date)"),
        ("SYSDATE AS now", "use event times and watermark()"),
        ("DECODE(amount, 1, 'a', 'b') AS d", "write CASE x WHEN a THEN b"),
        ("NVL2(amount, 1, 2) AS d", "write CASE WHEN x IS NOT NULL"),
        ("ADD_MONTHS(order_date, 1) AS d", "INTERVAL '1 month'"),
        ("LISTAGG(amount, ',') AS d", "string_agg"),
    ] {
        let said = problem(&format!(
            "-- writes: postgres t\n-- key: order_id\nSELECT order_id, {select} FROM orders"
        ))
        .await;
        assert!(said.starts_with("x.sql:3:18: ") && said.contains(says), "{select}: {said}");
    }
    let joined =
        "SELECT o.order_id FROM orders o, customers c WHERE o.customer_id = c.customer_id (+)";
    let said = problem(&format!("-- writes: postgres t\n-- key: order_id\n{joined}")).await;
    assert!(said.contains("write LEFT JOIN"), "{said}");
    // PostgreSQL's own, and a column of such a name.
    for select in ["trunc(amount) AS t", "NVL(amount, 0) AS t", "amount AS sysdate"] {
        let text = format!(
            "-- writes: postgres t\n-- key: order_id\nSELECT order_id, {select} FROM orders"
        );
        assert_eq!(problems(&[("x", &text)]).await, Vec::<String>::new(), "{select}");
    }
}

#[tokio::test]
async fn what_datafusion_says_has_no_types_of_its_own_and_no_advice_to_write_to_its_authors() {
    for select in [
        "trunc(order_date, customer_id)",
        "abs(order_date)",
        "order_date + amount",
        "upper(order_date, 1)",
    ] {
        let said = problem(&format!(
            "-- writes: postgres t\n-- key: order_id\nSELECT order_id, {select} AS x FROM orders"
        ))
        .await;
        for leak in ["Timestamp(", "Utf8", "Int64", "bug report", "caused by a bug"] {
            assert!(!said.contains(leak), "{select}: {said}");
        }
    }
}
