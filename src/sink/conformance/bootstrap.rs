//! The newest row of each key, read back.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::stage::{QUEUE, START, Stage, epoch, orders, scn};
use crate::model::{Table, TableOptions};
use crate::sink::Sink;

pub(super) async fn bootstrap_gives_the_newest_row_per_key(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let commits = [
        epoch(1).created(1, 1, "a").created(2, 2, "a").created(3, 3, "a").build(),
        epoch(2).updated(5, 1, "newest").deleted(6, 2).build(),
        // Redelivered out of order: an older message comes in a later epoch.
        epoch(3).updated(4, 1, "older").build(),
    ];
    for commit in &commits {
        sink.commit(commit).await.expect("the epoch is committed");
    }
    let mut sink = stage.sink(QUEUE).await;
    let all = newest(&mut *sink, None).await;
    assert_eq!(
        all,
        [(1, Some("newest"), "u", 5), (2, None, "d", 6), (3, Some("a"), "c", 3)]
            .map(|(key, status, op, id)| (key, status.map(str::to_owned), op, id))
    );
    // source_ts follows the message id here, so message 3 is older than this.
    let keys: Vec<i64> =
        newest(&mut *sink, Some(START + 5)).await.iter().map(|row| row.0).collect();
    assert_eq!(keys, [1, 2]);
    let nowhere = Table { options: TableOptions::default(), ..Arc::unwrap_or_clone(orders()) };
    assert!(sink.bootstrap(&Arc::new(nowhere), None).await.expect("nothing to read").is_empty());
}

/// Key, status, operation and message id of the bootstrapped rows, by key.
pub(super) async fn newest(
    sink: &mut dyn Sink,
    since: Option<i64>,
) -> Vec<(i64, Option<String>, &'static str, u64)> {
    newest_of(sink, &orders(), since).await
}

/// The same of one of the tables.
pub(super) async fn newest_of(
    sink: &mut dyn Sink,
    table: &Arc<Table>,
    since: Option<i64>,
) -> Vec<(i64, Option<String>, &'static str, u64)> {
    let mut rows = Vec::new();
    for changelog in sink.bootstrap(table, since).await.expect("the landing table can be read") {
        assert_eq!(changelog.batch.schema(), table.changelog_schema());
        let keys = changelog.batch.column(0).as_primitive::<Int64Type>();
        let status = changelog.batch.column(1).as_string::<i32>();
        for row in 0..changelog.len() {
            let (offset, operation) = (changelog.offsets[row], changelog.operations[row]);
            assert_eq!(changelog.positions[row].0, offset.id as i64);
            assert_eq!(changelog.scns[row], scn(offset.id));
            let status = status.iter().nth(row).flatten().map(str::to_owned);
            rows.push((keys.value(row), status, operation.letter(), offset.id));
        }
    }
    rows.sort();
    rows
}
