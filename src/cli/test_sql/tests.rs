//! What `tidemark test` accepts and reports.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::model::{Landing, Table};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn shipped() -> PathBuf {
    Path::new(ROOT).join("sql")
}

/// What a test file beside the shipped SQL prints, without the folder that it is in.
async fn output(text: &str) -> (Tally, String) {
    output_over(&load(&shipped(), None).await.unwrap(), text).await
}

async fn output_over(sql: &Sql, text: &str) -> (Tally, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.test.yaml");
    std::fs::write(&path, text).unwrap();
    let mut out = Vec::new();
    let outcome = run_files(&[path], sql, &mut out).await.unwrap();
    let prefix = format!("{}/", folder.path().display());
    (outcome, String::from_utf8(out).unwrap().replace(&prefix, ""))
}

#[tokio::test]
async fn the_shipped_tests_pass_and_there_is_one_for_each_transform() {
    let sql = load(&shipped(), None).await.unwrap();
    let files = find(&shipped()).unwrap();
    for transform in &sql.transforms {
        let test = transform.path.with_extension("test.yaml");
        assert!(files.contains(&test), "{} has no test", transform.path.display());
    }
    let mut out = Vec::new();
    let outcome = run_files(&files, &sql, &mut out).await.unwrap();
    assert_eq!(outcome.failed, 0, "{}", String::from_utf8_lossy(&out));
}

#[tokio::test]
async fn the_tests_of_point_in_time_look_ups_pass() {
    let folder = Path::new(ROOT).join("tests/lookup");
    let sql = load(&folder, None).await.unwrap();
    let mut out = Vec::new();
    let outcome = run_files(&find(&folder).unwrap(), &sql, &mut out).await.unwrap();
    assert_eq!((outcome.passed, outcome.failed), (3, 0), "{}", String::from_utf8_lossy(&out));
}

#[tokio::test]
async fn the_example_in_the_readme_passes() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (_, example) = readme.split_once("```yaml\n").unwrap();
    let (outcome, text) = output(example.split_once("```").unwrap().0).await;
    assert_eq!((outcome.passed, outcome.failed), (1, 0), "{text}");
}

const TWO_ORDERS: &str = "tests:
  - name: two orders
    events:
      - insert: orders
        row: {order_id: 1, customer_id: 7, total_amount: 1.5}
      - insert: orders
        row: {order_id: 2, customer_id: 8, total_amount: 20}
    expect:
";

#[tokio::test]
async fn a_wrong_expectation_is_shown_beside_what_is_there() {
    let expected = "      orders_enriched:
        - {order_id: 1, customer_id: 7, total_amount: 1.50, customer_name: null}
        - {order_id: 2, customer_id: 8, total_amount: 21, customer_name: null}
";
    let (outcome, text) = output(&format!("{TWO_ORDERS}{expected}")).await;
    assert_eq!((outcome.passed, outcome.failed), (0, 1));
    let expected = "\
FAILED  a.test.yaml:9: two orders
  run: as written
  orders_enriched differs (- expected, + shown):
      order_id | customer_id | total_amount | customer_name
      1        | 7           | 1.50         | NULL
    + 2        | 8           | 20.00        | NULL
    - 2        | 8           | 21.00        | NULL            <- line 11
";
    assert_eq!(text, expected);
}

#[tokio::test]
async fn a_row_too_many_and_a_row_too_few_are_differences() {
    let (outcome, text) = output(&format!("{TWO_ORDERS}      orders_enriched: []\n")).await;
    assert_eq!(outcome.failed, 1);
    assert_eq!(text.matches("\n    + ").count(), 2, "{text}");
    let twice = "      orders_enriched:
        - {item_count: 0}
        - {item_count: 0}
        - {item_count: 0}
";
    let (outcome, text) = output(&format!("{TWO_ORDERS}{twice}")).await;
    assert_eq!(outcome.failed, 1);
    assert_eq!(text.matches("\n    - 0").count(), 1, "{text}");
}

#[tokio::test]
async fn what_is_expected_in_between_is_checked_where_a_batch_ends() {
    let text = TWO_ORDERS.replace(
        "      - insert: orders\n        row: {order_id: 2",
        "      - expect:\n          orders_enriched: []\n      - insert: orders\n        row: {order_id: 2",
    );
    let (outcome, text) = output(&format!("{text}      order_lines_enriched: []\n")).await;
    assert_eq!(outcome.failed, 1);
    assert!(text.starts_with("FAILED  a.test.yaml:7: two orders\n  run: as written\n"), "{text}");
}

/// Its one row per epoch counts the events of a batch.
const COUNTS_A_BATCH: &str =
    "-- writes: postgres counts\nSELECT COUNT(*) AS events FROM orders_changes";

#[tokio::test]
async fn a_result_that_depends_on_where_batches_end_fails() {
    let mut sql = load(&shipped(), None).await.unwrap();
    sql.transforms.push(crate::transform::SqlFile {
        path: "counts.sql".into(),
        name: "counts".into(),
        text: COUNTS_A_BATCH.into(),
    });
    let expected = format!("{TWO_ORDERS}      counts:\n        - {{events: 2}}\n");
    let (outcome, text) = output_over(&sql, &expected).await;
    assert_eq!(outcome.failed, 1);
    assert!(text.contains("run: two batches, the first ends after event 1"), "{text}");
    assert!(text.contains("\n    + 1\n") && text.contains("\n    - 2        <- line"), "{text}");
}

#[tokio::test]
async fn a_result_that_does_not_survive_a_restart_fails() {
    let mut sql = load(&shipped(), None).await.unwrap();
    let orders = sql.tables.iter_mut().find(|table| table.name == "orders").unwrap();
    let mut lost = Table::clone(orders);
    lost.options.landing = Landing::None;
    *orders = Arc::new(lost);
    let text = "tests:
  - name: an item
    events:
      - insert: orders
        row: {order_id: 1, total_amount: 1.50}
      - insert: order_items
        row: {item_id: 10, order_id: 1, subtotal: 1.50}
    expect:
      orders_enriched:
        - {order_id: 1, item_count: 1}
";
    let (outcome, shown) = output_over(&sql, text).await;
    assert_eq!(outcome.failed, 1);
    assert!(shown.contains("run: a restart after event 1"), "{shown}");
    assert!(shown.contains("\n    + 1        | 0\n"), "{shown}");
}

#[tokio::test]
async fn dead_letters_are_expected_or_a_failure() {
    let events = "tests:
  - name: no order
    events:
      - raw: no JSON
    expect:
";
    let (outcome, text) = output(&format!("{events}      orders_enriched: []\n")).await;
    assert_eq!(outcome.failed, 1);
    assert!(text.contains("1 event(s) became dead letters"), "{text}");
    assert!(text.contains("event 1: MALFORMED_JSON: "), "{text}");
    let letters = "      dead_letters:\n        - {error_type: MALFORMED_JSON, phase: decode}\n";
    let (outcome, text) = output(&format!("{events}{letters}")).await;
    assert_eq!(outcome.passed, 1, "{text}");
}

/// Every text is refused with the message that begins like this.
async fn assert_refused(cases: &[(String, &str)]) {
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let (outcome, shown) = output(text).await;
        assert_eq!((outcome.passed, outcome.failed), (0, 1), "{text}");
        if !shown.starts_with(&format!("FAILED  a.test.yaml:{expected}")) {
            wrong.push(format!("{shown}instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_malformed_file_is_refused_with_line_and_column() {
    let cases = [
        ("tests:\n  - name: [a\n", "3:1: is no YAML: "),
        ("tests: &a []\n", "1:8: anchors"),
        ("tests:\n- name: a\n  name: b\n", "3:3: name is there twice"),
        ("tests:\n- name: a\n", "2:3: this test has no `events:`"),
        ("tests:\n- nam: a\n", "2:3: nam is not known here; there are name,"),
    ];
    assert_refused(&cases.map(|(text, expected)| (text.to_owned(), expected))).await;
}

#[tokio::test]
async fn a_malformed_event_is_refused_with_line_and_column() {
    let cases = [
        ("restart", "4:5: there is no event in it"),
        ("{insert: order, row: {}}", "4:14: there is no table order; there are "),
        ("{insert: orders, row: {id: 1}}", "4:28: table orders has no column id;"),
        ("{insert: orders, row: {status: a}}", "4:27: the key column order_id of"),
        ("{insert: orders, row: {order_id: a}}", "4:27: column order_id: 'a' is not a whole"),
        ("{time: noon}", "4:12: 'noon' is no time; write it as in 2024"),
        ("{insert: orders, op: c}", "4:22: op is not known here; there are insert,"),
    ];
    let file = |event: &str| {
        format!("tests:\n- name: a\n  events:\n  - {event}\n  expect:\n    orders_enriched: []\n")
    };
    assert_refused(&cases.map(|(event, expected)| (file(event), expected))).await;
}

#[tokio::test]
async fn a_malformed_expectation_is_refused_with_line_and_column() {
    let cases = [
        ("- {id: 1}", "10:10: orders_enriched has no column id; there are "),
        ("- {total_amount: 1.005}", "10:9: column total_amount: '1.005' is no "),
        ("- {total_amount: a}", "10:9: column total_amount: 'a' is no "),
        (
            "- {order_id: 1}\n      - {item_count: 0}",
            "11:10: column item_count is not in the first row",
        ),
        (
            "- {order_id: 1, item_count: 0}\n      - {order_id: 2}",
            "11:9: this row has no column item_count,",
        ),
    ];
    let file = |rows: &str| format!("{TWO_ORDERS}      orders_enriched:\n      {rows}\n");
    assert_refused(&cases.map(|(rows, expected)| (file(rows), expected))).await;
    let unknown =
        (format!("{TWO_ORDERS}      nothing: []\n"), "9:7: there is no result nothing; there are ");
    assert_refused(&[unknown]).await;
}

#[tokio::test]
async fn nesting_that_never_ends_is_refused() {
    let (outcome, shown) = output(&format!("tests: {}", "[".repeat(10_000))).await;
    assert_eq!(outcome.failed, 1);
    assert!(shown.starts_with("FAILED  a.test.yaml:1:"), "{shown}");
}

#[tokio::test]
async fn rows_of_xml_are_tested_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "tables/orders.sql",
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, doc VARCHAR) WITH (source = 'S.ORDERS', ttl = 'none')",
    );
    let totals = "-- writes: postgres totals\n-- key: id\nSELECT id, sum(quantity) AS total FROM lines GROUP BY id";
    write("transforms/totals.sql", totals);
    write(
        "tidemark.toml",
        "[[xml]]\nsource_table = 'S.ORDERS'\nxml_column = 'DOC'\ntarget_table = 'lines'\nxpath = '//l'\n\
         columns = [{ name = 'quantity', path = '@q', type = 'BIGINT' }]\n",
    );
    let sql = load(folder.path(), Some(&folder.path().join("tidemark.toml"))).await.unwrap();
    let text = "tests:\n  - name: sums\n    events:\n      - insert: orders\n        row: {id: 1, doc: \"<d><l q='2'/><l q='3'/></d>\"}\n\
        \x20     - insert: orders\n        row: {id: 2, doc: \"<d><l q='7'/></d>\"}\n      - delete: orders\n        row: {id: 2}\n\
        \x20   expect:\n      totals:\n        - {id: 1, total: 5}\n";
    let (outcome, said) = output_over(&sql, text).await;
    assert_eq!((outcome.passed, outcome.failed), (1, 0), "{said}");
}
