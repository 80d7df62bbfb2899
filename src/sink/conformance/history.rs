//! The histories of rows, found by their keys.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::stage::{QUEUE, SPOOL, Stage, epoch, orders, scn};
use crate::model::{
    Changelog, CommittedEpoch, Epoch, Offset, OffsetSet, Operation, Table, TableOptions,
};
use crate::sink::TakeRows;

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

pub(super) async fn the_changes_after_a_state_that_was_kept_are_told(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let committed = |number: u64, run_id: &str| CommittedEpoch {
        epoch: Epoch(number),
        run_id: run_id.to_owned(),
    };
    let run = sink.run_id().to_owned();
    let commits = [
        epoch(1).created(1, 1, "a").created(2, 2, "a").build(),
        epoch(2).updated(4, 1, "b").deleted(5, 2).build(),
        epoch(3).created(9, 3, "a").build(),
    ];
    for commit in &commits {
        sink.commit(commit).await.expect("the epoch is committed");
    }
    let mut other = stage.sink(QUEUE).await;
    other.resume().await.expect("the ledger can be read");
    let since = other.committed_since(&committed(1, &run)).await.expect("the ledger can be read");
    let since = since.expect("all epochs are there");
    let expected = [4, 5, 9].map(|id| Offset::new(SPOOL, id));
    assert_eq!(since, expected.into_iter().collect());
    let mut changes = Vec::new();
    let take: TakeRows<'_> = &mut |part| {
        let keys = part.batch.column(0).as_primitive::<Int64Type>();
        let rows = (0..part.len()).map(|row| (part.offsets[row].id, keys.value(row)));
        changes.extend(rows);
        ControlFlow::Continue(())
    };
    other.each_change(&orders(), &since, take).await.expect("the landing table can be read");
    changes.sort_unstable();
    assert_eq!(changes, [(4, 1), (5, 2), (9, 3)]);
    let none = other.committed_since(&committed(3, &run)).await.expect("the ledger can be read");
    assert_eq!(none, Some(OffsetSet::default()));
    for (number, run_id) in [(4, run.as_str()), (2, "another run")] {
        let kept = committed(number, run_id);
        let since = other.committed_since(&kept).await.expect("the ledger can be read");
        assert_eq!(since, None, "epoch {number} of {run_id}");
    }
}

pub(super) fn order_ids(keys: &[i64]) -> RecordBatch {
    let schema = orders().schema().project(&[0]).expect("the key is the first column");
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    RecordBatch::try_new(Arc::new(schema), vec![keys]).expect("the key alone")
}
