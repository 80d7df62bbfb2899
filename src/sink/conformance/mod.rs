//! What every sink must do, as functions that both implementations run. They panic where a sink
//! does something else; nothing but tests calls them.

mod bootstrap;
mod current;
mod history;
mod keys;
mod large;
mod stage;
mod truncate;

pub use self::stage::{
    APPENDED, DEAD_LETTERS, EpochBuilder, KEPT, KEYED, LANDING, PIPELINE, QUEUE, SPOOL, START,
    Stage, epoch, kept_orders, log, orders, totals,
};

use std::sync::Arc;

use self::stage::{offset, texts};
use super::SinkError;
use crate::model::{
    Epoch, EpochCommit, Generation, Generations, Offset, OffsetSet, ResultTable, SchemaChange,
    SchemaChangeKind, SeenType,
};
use crate::resilience::Recovery;
/// Runs everything, each on a stage of its own.
pub async fn check_all<S: Stage>(stage: impl AsyncFn() -> S) {
    rewriting_an_epoch_changes_nothing(&mut stage().await).await;
    an_epoch_of_another_run_is_fenced(&mut stage().await).await;
    resume_returns_exact_offsets(&mut stage().await).await;
    queues_have_their_own_offsets(&mut stage().await).await;
    bootstrap::bootstrap_gives_the_newest_row_per_key(&mut stage().await).await;
    truncate::a_truncate_deletes_what_is_older(&mut stage().await).await;
    truncate::what_an_event_did_not_carry_is_found_in_earlier_ones(&mut stage().await).await;
    history::the_history_of_keys_is_told_in_order(&mut stage().await).await;
    history::the_changes_after_a_state_that_was_kept_are_told(&mut stage().await).await;
    current::one_row_of_each_key_is_kept(&mut stage().await).await;
    current::a_truncate_takes_all_older_rows(&mut stage().await).await;
    for seed in 0..8 {
        current::current_rows_are_the_newest_changes(&mut stage().await, seed).await;
    }
    a_failed_epoch_leaves_no_trace(&mut stage().await).await;
    keys::a_key_that_comes_back_ends_as_it_says(&mut stage().await).await;
    an_epoch_without_rows_still_moves_on(&mut stage().await).await;
    a_new_definition_replaces_the_rows_and_is_remembered(&mut stage().await).await;
    the_schema_registry_grows_with_the_epochs(&mut stage().await).await;
    large::changes_of_a_key_stay_in_their_order(&mut stage().await).await;
    large::an_epoch_of_a_hundred_thousand_rows_is_whole(&mut stage().await, 100_000).await;
}

/// Runs what holds for a target that is told of changes and keeps no table: it is told nothing when a result
/// has a new definition.
pub async fn check_posted<S: Stage>(stage: impl AsyncFn() -> S) {
    rewriting_an_epoch_changes_nothing(&mut stage().await).await;
    an_epoch_of_another_run_is_fenced(&mut stage().await).await;
    a_failed_epoch_leaves_no_trace(&mut stage().await).await;
    keys::a_key_that_comes_back_ends_as_it_says(&mut stage().await).await;
    an_epoch_without_rows_still_moves_on(&mut stage().await).await;
    large::changes_of_a_key_stay_in_their_order(&mut stage().await).await;
    large::an_epoch_of_a_hundred_thousand_rows_is_whole(&mut stage().await, 1_000).await;
}

async fn rewriting_an_epoch_changes_nothing(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let first = epoch(1).created(1, 7, "new").dead(2).upserted(7, "new").logged(7, "new").build();
    for _ in 0..3 {
        sink.commit(&first).await.expect("the epoch is committed, again and again");
    }
    let second = epoch(2).created(3, 8, "new").build();
    sink.commit(&second).await.expect("the next epoch");
    assert_eq!(stage.rows(LANDING, &["order_id"]).await, texts(&[&["7"], &["8"]]));
    assert_eq!(stage.rows(KEYED, &["order_id", "status"]).await, texts(&[&["7", "new"]]));
    assert_eq!(stage.rows(APPENDED, &["order_id", "status"]).await, texts(&[&["7", "new"]]));
    let dead = Offset::new(SPOOL, 2).to_string();
    assert_eq!(stage.rows(DEAD_LETTERS, &["event_id"]).await, texts(&[&[&dead]]));
}

async fn an_epoch_of_another_run_is_fenced(stage: &mut dyn Stage) {
    let mut first = stage.sink(QUEUE).await;
    let mut second = stage.sink(QUEUE).await;
    for number in 1..=2 {
        let commit = epoch(number).created(number, number as i64, "first").build();
        first.commit(&commit).await.expect("the first run is alone");
    }
    for number in 1..=2 {
        let commit = epoch(number).created(10 + number, 9, "second").build();
        let error = second.commit(&commit).await.expect_err("another run has this epoch");
        assert!(matches!(error, SinkError::Fenced { .. }), "{error:?}");
        assert_eq!(error.recovery(), Recovery::Stop);
    }
    assert_eq!(
        stage.rows(LANDING, &["order_id", "status"]).await,
        texts(&[&["1", "first"], &["2", "first"]])
    );
    let error = second.commit(&epoch(3).build()).await.expect_err("it does not know epoch 2");
    assert!(matches!(error, SinkError::Fenced { .. }), "{error:?}");
    second.resume().await.expect("the ledger can be read");
    second.commit(&epoch(3).build()).await.expect("an epoch onto the newest one");
    let error = first.commit(&epoch(3).build()).await.expect_err("the second run has epoch 3");
    assert!(matches!(error, SinkError::Fenced { .. }), "{error:?}");
}

async fn resume_returns_exact_offsets(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let nothing = sink.resume().await.expect("an empty ledger can be read");
    assert_eq!(nothing.epoch, None);
    assert!(nothing.offsets.is_empty() && nothing.generations.all().is_empty());
    assert_eq!(nothing.watermark, None);

    // With holes, out of order, over two spools, one of which has the highest bit set.
    let other = u64::MAX - 1;
    let offsets = [(SPOOL, 5), (SPOOL, 6), (SPOOL, 9), (other, 1)];
    let later = [(SPOOL, 7), (other, 2), (other, 4), (SPOOL, 1)];
    let generations = [(0, other, 1), (1, SPOOL, 1), (2, other, 4)]
        .map(|(number, spool, first)| Generation { number, spool, first });
    let mut expected = OffsetSet::default();
    for (number, ids) in [(1, offsets), (2, later)] {
        let mut commit = epoch(number).build();
        commit.offsets = ids.iter().map(|(spool, id)| Offset::new(*spool, *id)).collect();
        commit.generations = Generations::new(generations.to_vec(), 0);
        commit.watermark = Some(START + number as i64);
        expected.extend(&commit.offsets);
        sink.commit(&commit).await.expect("the epoch is committed");
    }
    let position = stage.sink(QUEUE).await.resume().await.expect("the ledger can be read");
    assert_eq!(position.epoch, Some(Epoch(2)));
    assert_eq!(position.offsets, expected);
    assert_eq!(position.generations.all(), generations);
    assert_eq!(position.watermark, Some(START + 2));
}

async fn queues_have_their_own_offsets(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    sink.commit(&epoch(1).created(1, 1, "new").build()).await.expect("the epoch is committed");
    let position = stage.sink("another").await.resume().await.expect("the ledger can be read");
    assert_eq!(position.epoch, Some(Epoch(1)));
    assert!(position.offsets.is_empty() && position.generations.all().is_empty());
}

async fn a_failed_epoch_leaves_no_trace(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let commit = epoch(1).upserted(1, "x").logged(1, "x").dead(2).created(1, 1, "x").build();
    stage.set_broken(true).await;
    for _ in 0..2 {
        let error = sink.commit(&commit).await.expect_err("the target is broken");
        assert_eq!(error.recovery(), Recovery::Retry, "{error:?}");
    }
    for target in [LANDING, KEYED, APPENDED] {
        assert!(stage.rows(target, &["order_id"]).await.is_empty(), "{target}");
    }
    assert!(stage.rows(DEAD_LETTERS, &["event_id"]).await.is_empty());
    let position = stage.sink(QUEUE).await.resume().await.expect("the ledger can be read");
    assert!(position.epoch.is_none() && position.offsets.is_empty());

    stage.set_broken(false).await;
    sink.commit(&commit).await.expect("the target is repaired");
    for target in [LANDING, KEYED, APPENDED] {
        assert_eq!(stage.rows(target, &["order_id"]).await, texts(&[&["1"]]), "{target}");
    }
    let position = sink.resume().await.expect("the ledger can be read");
    assert_eq!((position.epoch, position.offsets.count()), (Some(Epoch(1)), 2));
}

async fn an_epoch_without_rows_still_moves_on(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let mut commit = epoch(5).build();
    commit.offsets.insert_range(Offset::new(SPOOL, 10), 19);
    sink.commit(&commit).await.expect("an epoch of tombstones");
    let position = sink.resume().await.expect("the ledger can be read");
    assert_eq!((position.epoch, position.offsets.count()), (Some(Epoch(5)), 10));
}

async fn a_new_definition_replaces_the_rows_and_is_remembered(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let old = epoch(1).upserted(1, "old").upserted(2, "old").build();
    sink.commit(&old).await.expect("rows of the old definition");
    let mut commit = epoch(2).upserted(2, "new").upserted(3, "new").build();
    for changes in &mut commit.results {
        let table = ResultTable { definition: "SELECT new".to_owned(), ..(*changes.table).clone() };
        (changes.table, changes.is_new_definition) = (Arc::new(table), true);
    }
    sink.commit(&commit).await.expect("rows of the new definition");
    let expected = texts(&[&["2", "new"], &["3", "new"]]);
    assert_eq!(stage.rows(KEYED, &["order_id", "status"]).await, expected);
    let position = stage.sink(QUEUE).await.resume().await.expect("the ledger can be read");
    assert_eq!(position.definitions.get("totals").map(String::as_str), Some("SELECT new"));

    let mut commit = epoch(3).build();
    commit.retired = vec!["totals".to_owned()];
    sink.commit(&commit).await.expect("an epoch without the result");
    assert_eq!(stage.rows(KEYED, &["order_id", "status"]).await, expected, "the rows stay");
    let position = stage.sink(QUEUE).await.resume().await.expect("the ledger can be read");
    assert_eq!(position.definitions.get("totals"), None, "the definition is forgotten");
}

async fn the_schema_registry_grows_with_the_epochs(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let learned = |column: &str, kind, seen| SchemaChange {
        source: orders().source.clone(),
        column: column.to_owned(),
        kind,
        seen,
        offset: offset(3),
    };
    let changes = [
        learned("Points \"!\"", SchemaChangeKind::Added, SeenType::Integer),
        learned("EMAIL", SchemaChangeKind::Missing, SeenType::Null),
        learned("Points \"!\"", SchemaChangeKind::Widened, SeenType::Json),
    ];
    for (number, changes) in (1..).zip([&changes[..2], &[], &changes[2..]]) {
        let commit = EpochCommit { schema_changes: changes.to_vec(), ..epoch(number).build() };
        sink.commit(&commit).await.expect("an epoch");
        sink.commit(&commit).await.expect("the same epoch again");
    }
    let position =
        stage.sink("another queue").await.resume().await.expect("the ledger can be read");
    assert_eq!(position.schema_changes, changes);
}
