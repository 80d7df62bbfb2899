//! Epochs of very many rows.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::stage::{APPENDED, KEYED, LANDING, QUEUE, Stage, epoch, orders, texts};
use crate::model::Changelog;

const ROWS: u64 = 100_000;

/// Every row is one of an epoch with [`ROWS`] landed rows, and all of `result_rows` of a result.
pub(super) async fn an_epoch_of_a_hundred_thousand_rows_is_whole(
    stage: &mut dyn Stage,
    result_rows: u64,
) {
    let mut sink = stage.sink(QUEUE).await;
    let landed = (1..=ROWS).fold(epoch(1), |epoch, id| epoch.created(id, id as i64, "x"));
    let filled = (1..=result_rows as i64).fold(landed, |epoch, key| epoch.upserted(key, "x"));
    let commit = filled.logged(1, "x").dead(ROWS + 1).build();
    for _ in 0..2 {
        sink.commit(&commit).await.expect("a large epoch, and the same again");
    }
    let rows = stage.rows(LANDING, &["order_id"]).await;
    assert_eq!(rows.len() as u64, ROWS);
    assert_eq!(stage.rows(KEYED, &["order_id"]).await.len() as u64, result_rows);
    assert_eq!(stage.rows(APPENDED, &["order_id"]).await, texts(&[&["1"]]));
    let emptied = (2..=result_rows as i64).fold(epoch(2), |epoch, key| epoch.removed(key));
    sink.commit(&emptied.build()).await.expect("a large epoch of deletes");
    assert_eq!(stage.rows(KEYED, &["order_id"]).await, texts(&[&["1"]]));
    let position = stage.sink(QUEUE).await.resume().await.expect("the ledger can be read");
    assert_eq!(position.offsets.count(), ROWS + 1);
}

/// Changes of one key, some in one epoch and some in the next ones.
pub(super) async fn changes_of_a_key_stay_in_their_order(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    for number in 1..=5 {
        let id = number * 10;
        let mut commit = epoch(number).upserted(1, &number.to_string()).upserted(2, "other");
        for more in 0..3 {
            commit = commit.updated(id + more, 1, &(id + more).to_string());
        }
        sink.commit(&commit.build()).await.expect("the epoch is committed");
    }
    let expected = texts(&[&["1", "5"], &["2", "other"]]);
    assert_eq!(stage.rows(KEYED, &["order_id", "status"]).await, expected);
    let schema = orders().schema().project(&[0]).expect("the key is the first column");
    let key = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![1]))]);
    let key = key.expect("the key alone");
    let history = stage.sink(QUEUE).await.history(&orders(), &key).await;
    let told = |part: &Changelog| -> Vec<String> {
        let keys = part.batch.column(0).as_primitive::<Int64Type>();
        assert!(keys.values().iter().all(|key| *key == 1));
        part.batch.column(1).as_string::<i32>().iter().flatten().map(str::to_owned).collect()
    };
    let told: Vec<String> =
        history.expect("the landing table can be read").iter().flat_map(told).collect();
    let ids = (1..=5).flat_map(|number| (0..3).map(move |more| (number * 10 + more).to_string()));
    assert_eq!(told, ids.collect::<Vec<_>>());
}
