//! Rows found by their keys, and their histories.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;

use super::stage::{QUEUE, Stage, epoch, orders, scn};
use crate::model::{Changelog, Operation, Table, TableOptions};
use crate::sink::{KeyQuery, Sink};

pub(super) async fn the_newest_rows_of_keys_are_found_unless_they_are_deleted(
    stage: &mut dyn Stage,
) {
    let mut sink = stage.sink(QUEUE).await;
    let commits = [
        epoch(1).created(1, 1, "a").created(2, 2, "a").created(3, 3, "a").deleted(4, 3).build(),
        epoch(2).deleted(6, 2).created(7, 3, "back").build(),
        // An older message comes in a later epoch.
        epoch(3)
            .updated(5, 2, "older")
            .deleted(8, 4)
            .created(9, 5, "a")
            .updated(10, 5, "b")
            .build(),
    ];
    let mut other = stage.sink(QUEUE).await;
    assert_eq!(found(&mut *other, by(&[0], &order_ids(&[1, 2]))).await, []);
    for commit in &commits {
        sink.commit(commit).await.expect("the epoch is committed");
    }
    let expected = [(1, "a", 1), (3, "back", 7)].map(|(k, status, id)| (k, status.to_owned(), id));
    let by_key = found(&mut *other, by(&[0], &order_ids(&[99, 1, 3, 2, 4]))).await;
    assert_eq!(by_key, expected);
    assert_eq!(found(&mut *other, by(&[0], &order_ids(&[]))).await, []);
    let many: Vec<i64> = (0..10_000).filter(|key| *key != 5).collect();
    assert_eq!(found(&mut *other, by(&[0], &order_ids(&many))).await, expected);
    // By another column: what the newest version says counts.
    let status = orders().schema().project(&[1]).expect("the second column");
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]));
    let status = RecordBatch::try_new(Arc::new(status), vec![texts]).expect("the status alone");
    let expected = [(1, "a", 1), (5, "b", 10)].map(|(k, status, id)| (k, status.to_owned(), id));
    assert_eq!(found(&mut *other, by(&[1], &status)).await, expected);

    let mut limited = async |limit| {
        let rows = other.newest_rows(&orders(), by(&[0], &order_ids(&[1, 3])), limit).await;
        rows.expect("the landing table can be read").is_some()
    };
    assert!(limited(2).await && !limited(1).await);
    let nowhere = Table { options: TableOptions::default(), ..Arc::unwrap_or_clone(orders()) };
    let rows = other.newest_rows(&Arc::new(nowhere), by(&[0], &order_ids(&[1])), 1).await;
    assert!(rows.expect("nothing to look into").expect("no rows").is_empty());
}

pub(super) async fn the_history_of_keys_is_told_in_order(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let commits = [
        epoch(1).created(1, 1, "a").created(2, 2, "a").updated(4, 1, "b").build(),
        // An older message comes in a later epoch.
        epoch(2).deleted(6, 1).updated(3, 1, "older").created(7, 1, "back").build(),
    ];
    let mut other = stage.sink(QUEUE).await;
    for commit in &commits {
        sink.commit(commit).await.expect("the epoch is committed");
    }
    let mut history = async |keys: &RecordBatch| {
        let parts = other.history(&orders(), keys).await.expect("the landing table can be read");
        let rows = |part: &Changelog| -> Vec<(i64, u64, Operation)> {
            let keys = part.batch.column(0).as_primitive::<Int64Type>();
            let rows = (0..part.len()).map(|row| {
                assert_eq!(part.positions[row].0 as u64 & 0xffff, part.offsets[row].id);
                assert_eq!(part.scns[row], scn(part.offsets[row].id));
                (keys.value(row), part.offsets[row].id, part.operations[row])
            });
            rows.collect()
        };
        parts.iter().flat_map(rows).collect::<Vec<_>>()
    };
    use Operation::{Create, Delete, Update};
    let expected = [(1, 1, Create), (1, 3, Update), (1, 4, Update), (1, 6, Delete), (1, 7, Create)];
    assert_eq!(history(&order_ids(&[99, 1, 1])).await, expected);
    assert_eq!(history(&order_ids(&[])).await, []);
    let many: Vec<i64> = (2..10_000).collect();
    assert_eq!(history(&order_ids(&many)).await, [(2, 2, Create)]);
    let nowhere = Table { options: TableOptions::default(), ..Arc::unwrap_or_clone(orders()) };
    let rows = other.history(&Arc::new(nowhere), &order_ids(&[1])).await;
    assert!(rows.expect("nothing to look into").is_empty());
}

fn by<'a>(columns: &'a [usize], keys: &'a RecordBatch) -> KeyQuery<'a> {
    KeyQuery { columns, keys }
}

/// Key, status and message id of what is found, by key.
async fn found(sink: &mut dyn Sink, query: KeyQuery<'_>) -> Vec<(i64, String, u64)> {
    let rows =
        sink.newest_rows(&orders(), query, 100).await.expect("the landing table can be read");
    let mut found = Vec::new();
    for changelog in rows.expect("not many rows") {
        assert_eq!(changelog.batch.schema(), orders().changelog_schema());
        let keys = changelog.batch.column(0).as_primitive::<Int64Type>();
        let status = changelog.batch.column(1).as_string::<i32>();
        found.extend(
            (0..changelog.len()).map(|row| {
                (keys.value(row), status.value(row).to_owned(), changelog.offsets[row].id)
            }),
        );
    }
    found.sort();
    found
}

fn order_ids(keys: &[i64]) -> RecordBatch {
    let schema = orders().schema().project(&[0]).expect("the key is the first column");
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    RecordBatch::try_new(Arc::new(schema), vec![keys]).expect("the key alone")
}
