//! Folding changes, in any order of delivery.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::GroupBound;

/// A message stream: operation and key per position, then how it is delivered.
fn stream() -> impl Strategy<Value = Vec<(bool, i64, u8)>> {
    prop::collection::vec((prop::bool::weighted(0.3), 0i64..8, any::<u8>()), 1..120)
}

/// Positions in the order of delivery: shuffled within a short reach, some of them twice.
fn delivery(length: usize, jitter: &[u8]) -> Vec<usize> {
    let mut order: Vec<(usize, usize)> = Vec::new();
    for at in 0..length {
        let jitter = usize::from(jitter[at % jitter.len()]);
        order.push((at + jitter % 20, at));
        if jitter % 7 == 0 {
            order.push((at + jitter % 50, at));
        }
    }
    order.sort();
    order.into_iter().map(|(_, at)| at).collect()
}

/// Brings rows up to date by a delta, which must fit them.
fn apply(shown: &mut BTreeMap<i64, String>, delta: &TableDelta) {
    let text = |batch: &RecordBatch| {
        let named = notes(batch).into_iter().map(|(id, note)| (id, note.unwrap_or_default()));
        named.collect::<Vec<_>>()
    };
    for (id, note) in text(&delta.before).into_iter().chain(text(&delta.deleted)) {
        assert_eq!(shown.remove(&id), Some(note), "what goes was there");
    }
    assert_eq!(delta.before.num_rows(), delta.after.num_rows());
    for (old, new) in text(&delta.before).into_iter().zip(text(&delta.after)) {
        assert_eq!(old.0, new.0, "a row keeps its key");
    }
    for (id, note) in text(&delta.after).into_iter().chain(text(&delta.inserted)) {
        assert_eq!(shown.insert(id, note), None, "what comes was not there");
    }
}

proptest! {
    #[test]
    fn a_store_holds_what_a_map_by_highest_position_holds(
        stream in stream(),
        jitter in prop::collection::vec(any::<u8>(), 1..20),
        sizes in prop::collection::vec(1usize..15, 1..10),
    ) {
        let table = table("t", TableOptions::default());
        let mut store = TableStore::new(Arc::clone(&table)).unwrap();
        let mut model: BTreeMap<i64, (i64, Option<String>)> = BTreeMap::new();
        let mut shown = BTreeMap::new();
        let order = delivery(stream.len(), &jitter);
        let (mut rest, mut sizes) = (order.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = later;
            let of = |at: &usize| {
                let ((is_delete, id, value), position) = (stream[*at], *at as i64);
                if is_delete { delete(position, id) } else { change(position, id, &value.to_string()) }
            };
            let changes: Vec<Change> = batch.iter().map(of).collect();
            let mut stale = 0;
            for change in &changes {
                if model.get(&change.id).is_some_and(|newest| newest.0 >= change.position) {
                    stale += 1;
                    continue;
                }
                let is_delete = change.operation == Operation::Delete;
                let note = change.note.clone().filter(|_| !is_delete);
                model.insert(change.id, (change.position, note));
            }
            let folded = store.fold(changelog(&table, &changes)).unwrap();
            prop_assert_eq!(folded.stale, stale);
            apply(&mut shown, &folded.delta);
            let live = model.iter().filter_map(|(id, (_, note))| Some((*id, note.clone()?)));
            let live: Vec<(i64, String)> = live.collect();
            prop_assert_eq!(store.len(), live.len());
            prop_assert_eq!(store.is_empty(), live.is_empty());
            prop_assert_eq!(rows(&store), live.clone());
            prop_assert_eq!(shown.iter().map(|(id, note)| (*id, note.clone())).collect::<Vec<_>>(), live);
        }
    }
}

#[test]
fn segments_stay_few_and_mostly_alive() {
    let table = table("t", TableOptions::default());
    let mut store = TableStore::new(Arc::clone(&table)).unwrap();
    for position in 0..2000 {
        // Every third change is an update of an old key, every seventh a delete.
        let id = if position % 3 == 0 { position / 2 } else { position };
        let next = if position % 7 == 0 { delete(position, id) } else { change(position, id, "n") };
        store.fold(changelog(&table, &[next])).unwrap();
        assert!(store.batches().count() <= 12, "{} segments", store.batches().count());
    }
    let held: usize = store.batches().map(RecordBatch::num_rows).sum();
    assert!(held <= 2 * store.len(), "{held} rows held for {}", store.len());
    for id in 0..2000 {
        store.fold(changelog(&table, &[delete(10_000 + id, id)])).unwrap();
    }
    assert!(store.is_empty());
    assert!(store.batches().count() <= 2, "{} segments of nothing", store.batches().count());
}

fn grouped() -> (Arc<Table>, TableStore) {
    let group = Some(GroupBound { column: 1, limit: 100, keep: 50 });
    let table = table("items", TableOptions { group, ..TableOptions::default() });
    let store = TableStore::new(Arc::clone(&table)).unwrap();
    (table, store)
}

fn ids(store: &TableStore) -> BTreeSet<i64> {
    rows(store).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn the_101st_row_of_a_group_leaves_its_newest_50() {
    let (table, mut store) = grouped();
    let hundred: Vec<Change> = (1..=100).map(|id| change(id, id, "n").of(9)).collect();
    assert_eq!(store.fold(changelog(&table, &hundred)).unwrap().trimmed, 0);
    // Row 1 changes, so that it is among the newest; another group is not affected.
    let more = [change(101, 1, "again").of(9), change(102, 500, "n").of(8)];
    assert_eq!(store.fold(changelog(&table, &more)).unwrap().trimmed, 0);
    let folded = store.fold(changelog(&table, &[change(103, 101, "n").of(9)])).unwrap();
    assert_eq!(folded.trimmed, 51);
    let kept: BTreeSet<i64> = (53..=101).chain([1, 500]).collect();
    assert_eq!(ids(&store), kept);
    assert_eq!(store.len(), 51);
}

#[test]
fn a_row_that_was_cut_comes_back_as_the_newest_of_its_group() {
    let (table, mut store) = grouped();
    let all: Vec<Change> = (1..=101).map(|id| change(id, id, "n").of(9)).collect();
    assert_eq!(store.fold(changelog(&table, &all)).unwrap().trimmed, 51);
    let again = store.fold(changelog(&table, &[change(200, 3, "again").of(9)])).unwrap();
    assert_eq!((again.trimmed, again.delta.is_empty()), (0, false));
    assert_eq!(ids(&store), (52..=101).chain([3]).collect());
    // A delete of a cut row changes nothing that is in memory.
    store.fold(changelog(&table, &[delete(201, 4).of(9)])).unwrap();
    assert_eq!(store.len(), 51);
    // Cut again, it is among the newest.
    let more: Vec<Change> = (300..350).map(|id| change(id, id, "n").of(9)).collect();
    assert_eq!(store.fold(changelog(&table, &more)).unwrap().trimmed, 51);
    assert_eq!(ids(&store), (300..350).collect());
}

#[test]
fn deletes_and_moves_make_room_in_a_group() {
    let (table, mut store) = grouped();
    let all: Vec<Change> = (1..=100).map(|id| change(id, id, "n").of(9)).collect();
    store.fold(changelog(&table, &all)).unwrap();
    let changes = [delete(101, 1), change(102, 2, "moved").of(8)];
    store.fold(changelog(&table, &changes)).unwrap();
    let more: Vec<Change> = (201..=202).map(|id| change(id, id, "n").of(9)).collect();
    assert_eq!(store.fold(changelog(&table, &more)).unwrap().trimmed, 0);
    assert_eq!(store.fold(changelog(&table, &[change(203, 203, "n").of(9)])).unwrap().trimmed, 51);
}

#[test]
fn rows_without_a_group_value_are_no_group() {
    let (table, mut store) = grouped();
    let all: Vec<Change> = (1..=150).map(|id| change(id, id, "n")).collect();
    assert_eq!(store.fold(changelog(&table, &all)).unwrap().trimmed, 0);
    assert_eq!(store.len(), 150);
}
