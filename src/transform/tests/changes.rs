//! What a run writes: the difference to the run before, and nothing else.

use std::collections::BTreeMap;

use super::held::{Rehearsal, TableRows};
use super::{customers, lines, order_changes, orders, plan};
use crate::model::{ColumnSet, PriorRow, ResultChanges};
use crate::transform::{PlanRequest, Transforms};

const BY_ID: &str = "-- writes: postgres t\n-- key: order_id\nSELECT order_id, amount FROM orders";
const PAIRS: &str = "-- writes: postgres t\n-- key: order_id, tier\nSELECT o.order_id, c.tier, c.customer_id \
    FROM orders o JOIN customers c ON c.customer_id = o.customer_id";

/// Microseconds of a minute of 2024-01-01.
fn minute(minute: i64) -> i64 {
    1_704_067_200_000_000 + minute * 60_000_000
}

#[tokio::test]
async fn only_rows_that_differ_are_written() {
    let mut transforms = plan(&[("x", BY_ID)]).await;
    let rows = orders(&[(1, None, None, Some(100)), (2, None, None, None)]);
    let first = transforms.run(vec![rows], &[], None).await.unwrap();
    assert_eq!(lines(&first), ["x + 1, 1.00", "x + 2, NULL"]);

    let rows =
        orders(&[(1, None, None, Some(150)), (2, None, None, None), (3, None, None, Some(0))]);
    let second = transforms.run(vec![rows], &[], None).await.unwrap();
    assert_eq!(lines(&second), ["x + 1, 1.50", "x + 3, 0.00"]);

    // NULL is a value of its own: it is neither zero nor an earlier NULL that came anew.
    let rows =
        orders(&[(1, None, None, Some(150)), (2, None, None, Some(0)), (3, None, None, None)]);
    let third = transforms.run(vec![rows], &[], None).await.unwrap();
    assert_eq!(lines(&third), ["x + 2, 0.00", "x + 3, NULL"]);
}

#[tokio::test]
async fn rows_that_are_gone_are_deleted_by_their_key_alone() {
    let mut transforms = plan(&[("x", PAIRS)]).await;
    let tables = vec![
        orders(&[(1, Some(7), None, None), (2, Some(7), None, None), (3, Some(8), None, None)]),
        customers(&[(7, Some("gold")), (8, Some("new"))]),
    ];
    let first = transforms.run(tables, &[], None).await.unwrap();
    assert_eq!(lines(&first), ["x + 1, gold, 7", "x + 2, gold, 7", "x + 3, new, 8"]);

    let tables = vec![customers(&[(7, Some("silver")), (8, Some("new"))])];
    let second = transforms.run(tables, &[], None).await.unwrap();
    assert_eq!(
        lines(&second),
        ["x + 1, silver, 7", "x + 2, silver, 7", "x - 1, gold", "x - 2, gold"]
    );

    let third = transforms.run(vec![orders(&[])], &[], None).await.unwrap();
    assert_eq!(lines(&third), ["x - 1, silver", "x - 2, silver", "x - 3, new"]);
    let again = transforms.run(vec![orders(&[])], &[], None).await.unwrap();
    assert!(again.is_empty(), "{again:?}");
}

#[tokio::test]
async fn an_empty_result_is_no_change() {
    let mut transforms = plan(&[("x", BY_ID)]).await;
    let changes = transforms.run(vec![orders(&[])], &[], None).await.unwrap();
    assert!(changes.is_empty(), "{changes:?}");
}

#[tokio::test]
async fn a_query_that_reads_nothing_is_run_once() {
    let mut transforms = plan(&[("x", "-- writes: postgres t\n-- key: a\nSELECT 1 AS a")]).await;
    assert_eq!(lines(&transforms.redefined(&BTreeMap::new()).await.unwrap()), ["x + 1"]);
    assert!(transforms.run(vec![orders(&[])], &[], None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_query_whose_tables_did_not_change_is_not_run() {
    // It fails whenever it runs over an order of nothing.
    let failing = "-- writes: postgres t2\n-- key: order_id\nSELECT order_id, 1 / (order_id - order_id) AS n FROM orders";
    let by_customer =
        "-- writes: postgres t1\n-- key: customer_id\nSELECT customer_id, tier FROM customers";
    let mut transforms = plan(&[("a", by_customer), ("b", failing)]).await;
    transforms.run(vec![], &[], None).await.unwrap();
    let changes = transforms.run(vec![customers(&[(7, None)])], &[], None).await.unwrap();
    assert_eq!(lines(&changes), ["a + 7, NULL"]);
    let rows = orders(&[(1, None, None, None)]);
    let error = transforms.run(vec![rows], &[], None).await.unwrap_err();
    assert_eq!(error.result, "b");
}

#[tokio::test]
async fn a_change_goes_through_the_results_that_read_it_and_no_further() {
    let totals = "-- writes: postgres t1\n-- key: customer_id\nSELECT customer_id, sum(amount) AS total \
        FROM orders WHERE customer_id IS NOT NULL GROUP BY customer_id";
    let large = "-- writes: postgres t2\n-- key: customer_id\nSELECT customer_id FROM totals WHERE total > 5";
    let mut transforms = plan(&[("large", large), ("totals", totals)]).await;
    let rows = orders(&[(1, Some(7), None, Some(400)), (2, Some(7), None, Some(50))]);
    let first = transforms.run(vec![rows], &[], None).await.unwrap();
    assert_eq!(lines(&first), ["totals + 7, 4.50"]);
    let rows = orders(&[(1, Some(7), None, Some(400)), (2, Some(7), None, Some(550))]);
    let second = transforms.run(vec![rows], &[], None).await.unwrap();
    assert_eq!(lines(&second), ["large + 7", "totals + 7, 9.50"]);
    let third = transforms.run(vec![orders(&[])], &[], None).await.unwrap();
    assert_eq!(lines(&third), ["large - 7", "totals - 7"]);
}

#[tokio::test]
async fn the_watermark_is_null_at_first_and_rewrites_only_what_it_closes() {
    let text = "-- writes: postgres t\n-- key: start\n\
        SELECT start, count(*) AS n, start + INTERVAL '5 minutes' <= watermark() AS is_final FROM (\
        SELECT date_bin(INTERVAL '5 minutes', order_date, TIMESTAMP '1970-01-01 00:00:00') AS start FROM orders) \
        GROUP BY start";
    let mut transforms = plan(&[("x", text)]).await;
    let rows = [
        (1, None, Some(minute(1)), None),
        (2, None, Some(minute(2)), None),
        (3, None, Some(minute(7)), None),
    ];
    let first = transforms.run(vec![orders(&rows)], &[], None).await.unwrap();
    assert_eq!(
        lines(&first),
        ["x + 2024-01-01T00:00:00, 2, NULL", "x + 2024-01-01T00:05:00, 1, NULL"]
    );

    let second = transforms.run(vec![], &[], Some(minute(4))).await.unwrap();
    assert_eq!(
        lines(&second),
        ["x + 2024-01-01T00:00:00, 2, false", "x + 2024-01-01T00:05:00, 1, false"]
    );
    let closed = transforms.run(vec![], &[], Some(minute(5))).await.unwrap();
    assert_eq!(lines(&closed), ["x + 2024-01-01T00:00:00, 2, true"]);
    assert!(transforms.run(vec![], &[], Some(minute(5))).await.unwrap().is_empty());
    assert!(transforms.run(vec![], &[], Some(minute(6))).await.unwrap().is_empty());
}

#[tokio::test]
async fn changes_are_appended_once_and_json_operators_reach_undeclared_fields() {
    let text = "-- writes: postgres t\nSELECT event_id, op, extra_fields->>'NOTE' AS note, \
        extra_fields->'A'->>'B' AS b FROM orders_changes WHERE extra_fields->>'NOTE' IS NOT NULL";
    let mut transforms = plan(&[("x", text)]).await;
    let changelog = order_changes(&[
        (1, Some(r#"{"NOTE":"first","A":{"B":"deep"}}"#)),
        (2, None),
        (3, Some(r#"{"OTHER":1}"#)),
    ]);
    let first = transforms.run(vec![], &[changelog], None).await.unwrap();
    assert_eq!(lines(&first), ["x + 1, c, first, deep"]);
    // The changes of an epoch are gone in the next one.
    assert!(transforms.run(vec![orders(&[])], &[], None).await.unwrap().is_empty());
    let changelog = order_changes(&[(4, Some(r#"{"NOTE":"second"}"#))]);
    let second = transforms.run(vec![], &[changelog], None).await.unwrap();
    assert_eq!(lines(&second), ["x + 4, c, second, NULL"]);
}

#[tokio::test]
async fn what_is_appended_shows_only_the_rows_of_its_epoch() {
    let log =
        "-- writes: postgres t1\nSELECT event_id, order_id FROM orders_changes WHERE order_id < 10";
    let both = "-- writes: postgres t2\nSELECT l.event_id FROM customers_changes c RIGHT JOIN log l ON true";
    let copy = "-- writes: postgres t3\nSELECT event_id AS e, order_id AS o FROM orders_changes \
        UNION ALL SELECT event_id, order_id FROM log";
    let mut transforms = plan(&[("log", log), ("both", both), ("copy", copy)]).await;
    let first = transforms.run(vec![], &[order_changes(&[(1, None)])], None).await.unwrap();
    assert_eq!(lines(&first), ["both + 1", "copy + 1, 1", "copy + 1, 1", "log + 1, 1"]);
    let second = transforms.run(vec![], &[order_changes(&[(11, None)])], None).await.unwrap();
    assert_eq!(lines(&second), ["copy + 11, 11"]);
}

#[tokio::test]
async fn loading_writes_nothing() {
    let mut transforms = plan(&[("x", BY_ID)]).await;
    let both = [(1, None, None, Some(100)), (2, None, None, Some(200))];
    transforms.load(vec![orders(&both)], None).await.unwrap();
    assert!(transforms.run(vec![orders(&both)], &[], None).await.unwrap().is_empty());
    let rows = orders(&[both[0], (2, None, None, Some(250))]);
    assert_eq!(lines(&transforms.run(vec![rows], &[], None).await.unwrap()), ["x + 2, 2.50"]);
}

#[tokio::test]
async fn it_is_told_what_the_target_holds() {
    let mut transforms = plan(&[("x", PAIRS)]).await;
    let first = [(1, Some(7), None, None), (2, Some(8), None, None)];
    let tables = vec![orders(&first), customers(&[(7, Some("gold")), (8, Some("gold"))])];
    let written = transforms.run(tables, &[], None).await.unwrap();
    assert_eq!(written[0].held, [PriorRow::Nothing, PriorRow::Nothing]);
    let moved = [(1, Some(8), None, None), (2, Some(8), None, None), (3, Some(8), None, None)];
    let written = transforms.run(vec![orders(&moved)], &[], None).await.unwrap();
    assert_eq!(lines(&written), ["x + 1, gold, 8", "x + 3, gold, 8"]);
    let customer = PriorRow::Other(ColumnSet::NONE.with(2));
    assert_eq!(written[0].held, [customer, PriorRow::Nothing]);
}

fn written(transforms: &Rehearsal) -> BTreeMap<String, String> {
    transforms.transforms.results().map(|r| (r.name.clone(), r.definition.clone())).collect()
}

#[tokio::test]
async fn a_new_or_edited_definition_is_written_whole_and_an_unchanged_one_is_not() {
    let log = "-- writes: postgres log\nSELECT event_id FROM orders_changes";
    let mut before = plan(&[("log", log), ("x", BY_ID)]).await;
    before.load(vec![orders(&[(1, None, None, None)])], None).await.unwrap();
    assert!(before.redefined(&written(&before)).await.unwrap().is_empty());

    let new = before.redefined(&BTreeMap::new()).await.unwrap();
    assert_eq!(lines(&new), ["x + 1, NULL"]);
    // The appended one has no rows to write again, but its definition is to be remembered.
    assert_eq!(new.len(), 2);
    assert!(new.iter().all(|changes| changes.is_new_definition && !changes.is_empty()));

    let edited = BY_ID.replace("FROM orders", "FROM orders WHERE order_id > 1");
    let mut after = plan(&[("log", log), ("x", &edited)]).await;
    let rows = [(1, None, None, None), (2, None, None, Some(100))];
    after.load(vec![orders(&rows)], None).await.unwrap();
    let redefined = after.redefined(&written(&before)).await.unwrap();
    assert_eq!(lines(&redefined), ["x + 2, 1.00"]);
}

/// 9999-12-31, which many an Oracle application writes for "never".
const NEVER: i64 = 253_402_214_400_000_000;

#[tokio::test]
async fn a_date_beyond_nanoseconds_does_no_harm_to_the_shipped_results() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sql"));
    let read = |name: &str| crate::transform::read_folder(&folder.join(name)).unwrap();
    let tables = crate::transform::parse_tables(&read("tables")).unwrap();
    let transforms = Transforms::plan(PlanRequest::new(&tables, &read("transforms")))
        .await
        .unwrap_or_else(|e| panic!("{e:?}"));
    let mut transforms = Rehearsal::new(transforms, &tables).await;
    let schema = tables.iter().find(|table| table.name == "orders").unwrap().schema();
    let columns = schema.fields().iter().map(|field| {
        let id = arrow::array::Int64Array::from(vec![1, 2]);
        let date = arrow::array::TimestampMicrosecondArray::from(vec![NEVER, minute(1)]);
        match field.name().as_str() {
            "order_id" => std::sync::Arc::new(id) as arrow::array::ArrayRef,
            "order_date" => std::sync::Arc::new(date),
            _ => arrow::array::new_null_array(field.data_type(), 2),
        }
    });
    let batch =
        arrow::array::RecordBatch::try_new(std::sync::Arc::clone(&schema), columns.collect())
            .unwrap();
    let rows = TableRows { name: "orders".into(), rows: batch };
    let changes = transforms.run(vec![rows], &[], None).await.unwrap();
    let count = |name: &str| -> usize {
        let rows = |change: &ResultChanges| change.upserts.num_rows();
        changes.iter().filter(|change| change.table.name == name).map(rows).sum()
    };
    assert_eq!((count("orders_enriched"), count("order_stats")), (2, 3));
}
