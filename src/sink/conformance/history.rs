//! The histories of rows, found by their keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::stage::{QUEUE, Stage, epoch, orders, scn};
use crate::model::{Changelog, Operation, Table, TableOptions};

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

fn order_ids(keys: &[i64]) -> RecordBatch {
    let schema = orders().schema().project(&[0]).expect("the key is the first column");
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    RecordBatch::try_new(Arc::new(schema), vec![keys]).expect("the key alone")
}
