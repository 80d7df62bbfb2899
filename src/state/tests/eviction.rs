//! Rows that leave memory, and what is found of them.

use arrow::array::ArrayRef;
use bytesize::ByteSize;

use super::*;
use crate::model::{
    CommittedEpoch, CurrentRows, Epoch, Found, Lookup, Reference, Truncation, Upkeep,
};

/// Tables `orders` and `items`, with an index on `parent`, and `log`, which moves the source's clock.
struct Stage {
    stores: StateStores,
    tables: Vec<Arc<Table>>,
    position: i64,
    _folder: Arc<StateFolder>,
}

impl Stage {
    fn new(orders: TableOptions) -> Self {
        let tables = vec![
            table("items", an_hour()),
            table("orders", orders),
            table("log", TableOptions { ttl: None, ..an_hour() }),
        ];
        let folder = StateFolder::temporary(1 << 20).unwrap();
        let mut stores = StateStores::new(&tables, Duration::from_secs(10)).unwrap();
        stores.add_index("items", &[1]).unwrap();
        stores.use_folder(&folder);
        Self { stores, tables, position: 0, _folder: folder }
    }

    fn fold(&mut self, table: &str, changes: &[Change]) -> Folded {
        let mut changes = changes.to_vec();
        for change in &mut changes {
            self.position += 1;
            change.position = self.position;
        }
        let changelog = self.changelog(table, &changes);
        self.stores.advance(std::slice::from_ref(&changelog));
        self.stores.fold(changelog).unwrap()
    }

    fn changelog(&self, table: &str, changes: &[Change]) -> Changelog {
        changelog(self.tables.iter().find(|t| t.name == table).unwrap(), changes)
    }

    /// Updates of another table, up to this time.
    fn pass(&mut self, updates: i64, time: i64) {
        let changes: Vec<Change> = (0..updates).map(|id| change(0, id, "").at(time)).collect();
        self.fold("log", &changes);
    }

    /// The disk has all that is committed.
    fn flush(&mut self) {
        let epoch = Epoch(self.position as u64);
        self.stores.note_committed(CommittedEpoch { epoch, run_id: "run".to_owned() });
        let flush = self.stores.begin_flush().unwrap().unwrap();
        self.stores.run_flush(flush);
        self.stores.finish_flush(true).unwrap().unwrap();
    }

    /// 500 updates, and what leaves memory then.
    fn evict_at(&mut self, time: i64) -> Evicted {
        self.pass(500, time);
        self.flush();
        self.stores.evict(Upkeep::default()).unwrap()
    }

    /// Everything leaves memory, no epoch being in flight.
    fn evict_all(&mut self) {
        self.flush();
        self.let_go();
    }

    /// Everything leaves memory that may.
    fn let_go(&mut self) {
        self.stores.set_memory_limit(ByteSize(0));
        self.stores.evict_now(Upkeep::default()).unwrap();
    }

    fn len(&self, table: &str) -> usize {
        self.store(table).len()
    }

    fn store(&self, table: &str) -> &TableStore {
        self.stores.stores().find(|store| store.table().name == table).unwrap()
    }

    /// Ids and notes of the items that a look-up finds, with the number of the key.
    fn find(&self, column: usize, keys: &[Option<i64>]) -> Vec<(u32, i64, String)> {
        let keys: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(keys.to_vec()))];
        let lookup = Lookup { columns: &[column], keys: &keys, nulls_match: false };
        let Found { rows, key_of } = self.stores.find("items", lookup, &[2, 0]).unwrap();
        let mut found: Vec<(u32, i64, String)> = (0..rows.num_rows())
            .map(|row| {
                let note = rows.column(0).as_string::<i32>().value(row).to_owned();
                (key_of[row], rows.column(1).as_primitive::<Int64Type>().value(row), note)
            })
            .collect();
        found.sort();
        let counts = self.stores.count("items", lookup).unwrap();
        for (key, count) in counts.into_iter().enumerate() {
            let of_key = found.iter().filter(|(of, ..)| *of as usize == key).count();
            assert_eq!(count, of_key, "rows of key {key}");
        }
        found
    }
}

fn evicted(table: &str, count: usize) -> Evicted {
    vec![(table.to_owned(), count)]
}

fn notes_of(pairs: &[(i64, &str)]) -> Vec<(i64, String)> {
    pairs.iter().map(|(id, note)| (*id, (*note).to_owned())).collect()
}

#[test]
fn ttl_goes_by_the_clock_of_the_source_and_takes_nothing_from_the_table() {
    let mut stage = Stage::new(an_hour());
    stage.fold("orders", &[change(0, 1, "a").at(0), change(0, 2, "b").at(1_000_000)]);
    assert_eq!(stage.evict_at(HOUR), vec![]);
    assert_eq!(stage.evict_at(HOUR + 1), evicted("orders", 1));
    assert_eq!(stage.len("orders"), 1);
    assert_eq!(rows(stage.store("orders")), notes_of(&[(1, "a"), (2, "b")]));
    assert!(stage.stores.disk_bytes() > 0 || stage.len("orders") == 1);
}

#[test]
fn it_is_looked_at_every_500_updates() {
    let mut stage = Stage::new(an_hour());
    stage.fold("orders", &[change(0, 1, "").at(0)]);
    stage.pass(498, 2 * HOUR);
    stage.flush();
    assert_eq!(stage.stores.evict(Upkeep::default()).unwrap(), vec![]);
    stage.pass(1, 2 * HOUR);
    stage.flush();
    assert_eq!(stage.stores.evict(Upkeep::default()).unwrap(), evicted("orders", 1));
}

#[test]
fn a_row_without_ttl_stays_while_memory_is_not_full() {
    let mut stage = Stage::new(TableOptions { ttl: None, ..an_hour() });
    stage.fold("orders", &[change(0, 1, "").at(0)]);
    assert_eq!(stage.evict_at(1_000_000 * HOUR), vec![]);
    assert_eq!(stage.len("orders"), 1);
}

#[test]
fn when_memory_is_full_the_first_rows_leave_until_a_fifth_is_free() {
    let mut stage = Stage::new(TableOptions { ttl: None, ..an_hour() });
    let note = "x".repeat(1000);
    let changes: Vec<Change> = (0..2000).map(|id| change(0, id, &note)).collect();
    stage.fold("orders", &changes);
    let used = stage.stores.stores().map(TableStore::memory).sum::<usize>();
    stage.stores.set_memory_limit(ByteSize(used as u64 * 9 / 10));
    assert_eq!(
        stage.stores.evict(Upkeep::default()).unwrap(),
        vec![],
        "the disk does not have them yet"
    );
    stage.flush();
    let left = stage.stores.evict(Upkeep::default()).unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!((500..700).contains(&left[0].1), "{left:?}: about 28 of 100");
    assert_eq!(stage.stores.excess(std::iter::empty()), None);
    let kept = stage.store("orders").known_keys().count();
    assert_eq!(kept, 2000 - left[0].1);
    assert_eq!(rows(stage.store("orders")).len(), 2000);
    // What results keep counts as well, and can't leave.
    let limit = used as u64 * 9 / 10;
    stage.pass(500, 0);
    stage.flush();
    let half = Upkeep { bytes: limit as usize / 2, may_leave: 0 };
    assert!(!stage.stores.evict(half).unwrap().is_empty());
    assert!(stage.stores.excess([("sums", 2 * limit as usize)].into_iter()).is_some());
}

#[test]
fn rows_of_epochs_in_flight_hold_nothing_up() {
    let mut stage = Stage::new(TableOptions { ttl: None, ..an_hour() });
    stage.stores.set_memory_limit(ByteSize::kib(1));
    stage.stores.begin_epoch();
    stage.fold("orders", &[change(0, 1, &"x".repeat(5000))]);
    stage.stores.finish_epoch();
    assert_eq!(
        stage.stores.evict(Upkeep::default()).unwrap(),
        vec![],
        "its epoch may be taken back"
    );
    assert!(stage.stores.excess(std::iter::empty()).is_some());
    assert_eq!(stage.stores.lasting_excess(std::iter::empty()), None, "they leave when they may");
    assert!(
        stage
            .stores
            .lasting_excess([("sums", Upkeep { bytes: 2000, may_leave: 0 })].into_iter())
            .is_some()
    );
    stage.stores.commit_epoch().unwrap();
    stage.flush();
    assert_eq!(stage.stores.evict(Upkeep::default()).unwrap(), evicted("orders", 1));
}

#[test]
fn a_table_with_a_limit_of_its_own_keeps_to_it() {
    let limit = Some(ByteSize::kib(256));
    let mut stage = Stage::new(TableOptions { memory_limit: limit, ttl: None, ..an_hour() });
    let note = "x".repeat(1000);
    let changes: Vec<Change> = (0..1000).map(|id| change(0, id, &note)).collect();
    stage.fold("orders", &changes);
    assert!(stage.stores.excess(std::iter::empty()).is_some());
    stage.flush();
    stage.stores.evict(Upkeep::default()).unwrap();
    assert_eq!(stage.stores.excess(std::iter::empty()), None);
    assert_eq!(rows(stage.store("orders")).len(), 1000);
}

#[test]
fn rows_are_found_by_key_and_by_index_wherever_they_are() {
    let mut stage = Stage::new(an_hour());
    stage.fold(
        "items",
        &[change(0, 1, "a").of(7), change(0, 2, "b").of(7), change(0, 3, "c").of(8)],
    );
    stage.evict_all();
    assert_eq!(stage.len("items"), 0);
    stage.fold("items", &[change(0, 4, "d").of(7), change(0, 2, "moved").of(8)]);
    let by_parent =
        [(0, 1, "a"), (0, 4, "d"), (1, 2, "moved"), (1, 3, "c"), (3, 1, "a"), (3, 4, "d")];
    let by_parent = by_parent.map(|(key, id, note)| (key, id, note.to_owned()));
    assert_eq!(stage.find(1, &[Some(7), Some(8), None, Some(7)]), by_parent);
    let by_key = [(0, 4, "d"), (1, 1, "a"), (3, 2, "moved")];
    let by_key = by_key.map(|(key, id, note)| (key, id, note.to_owned()));
    assert_eq!(stage.find(0, &[Some(4), Some(1), Some(99), Some(2)]), by_key);
    // Again, with what has changed since it was on disk.
    stage.evict_all();
    assert_eq!(stage.find(1, &[Some(7), Some(8), None, Some(7)]), by_parent);
    assert_eq!(stage.find(0, &[Some(4), Some(1), Some(99), Some(2)]), by_key);
}

#[test]
fn a_change_of_a_row_on_disk_is_told_with_the_row_before() {
    let mut stage = Stage::new(an_hour());
    stage.fold("items", &[change(0, 1, "a").of(7), change(0, 2, "b").of(7)]);
    stage.evict_all();
    let folded = stage.fold("items", &[change(0, 1, "b"), delete(0, 2), change(0, 3, "new")]);
    let ids = |batch: &RecordBatch| notes(batch).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(notes(&folded.delta.before), [(1, Some("a".to_owned()))]);
    assert_eq!(notes(&folded.delta.after), [(1, Some("b".to_owned()))]);
    assert_eq!((ids(&folded.delta.deleted), ids(&folded.delta.inserted)), (vec![2], vec![3]));
    assert_eq!(rows(stage.store("items")), notes_of(&[(1, "b"), (3, "new")]));
    stage.evict_all();
    assert_eq!(rows(stage.store("items")), notes_of(&[(1, "b"), (3, "new")]));
    assert_eq!(stage.find(1, &[Some(7)]), vec![]);
}

#[test]
fn an_unchanged_lob_is_the_one_on_disk() {
    let mut stage = Stage::new(an_hour());
    stage.fold("items", &[change(0, 1, "long text")]);
    stage.evict_all();
    let folded = stage.fold("items", &[change(0, 1, "").with_old_note()]);
    assert_eq!(notes(&folded.changelog.batch), [(1, Some("long text".to_owned()))]);
}

#[test]
fn older_changes_stay_older_whatever_has_left_memory() {
    let mut stage = Stage::new(an_hour());
    stage.fold("orders", &[change(0, 1, "").at(0), delete(0, 1).at(0), change(0, 2, "now").at(0)]);
    let late = stage.changelog("orders", &[change(1, 1, "late"), change(1, 2, "late")]);
    assert_eq!(stage.evict_at(HOUR + 1), evicted("orders", 1));
    assert_eq!(stage.store("orders").known_keys().count(), 0, "the delete is on disk as well");
    assert_eq!(stage.store("orders").remembered_deletes(), 0);
    assert_eq!(stage.stores.fold(late).unwrap().stale, 2);
    assert_eq!(rows(stage.store("orders")), notes_of(&[(2, "now")]));
}

#[test]
fn only_the_last_delete_of_a_key_counts() {
    let mut stage = Stage::new(an_hour());
    let changes = [delete(0, 1).at(0), change(0, 1, "").at(1), delete(0, 1).at(HOUR)];
    stage.fold("orders", &changes);
    stage.evict_at(HOUR + 1);
    assert_eq!(stage.store("orders").known_keys().count(), 1);
    stage.fold("orders", &[change(0, 1, "back").at(2 * HOUR)]);
    stage.evict_at(3 * HOUR + 1);
    assert_eq!(rows(stage.store("orders")), notes_of(&[(1, "back")]));
}

#[test]
fn what_an_epoch_has_changed_stays_until_it_is_committed() {
    let mut stage = Stage::new(an_hour());
    stage.fold("items", &[change(0, 1, "a").of(7), change(0, 2, "b").of(7), change(0, 9, "c")]);
    stage.evict_all();
    stage.stores.begin_epoch();
    stage.fold("items", &[change(0, 1, "b").of(8), delete(0, 2), change(0, 3, "new").of(7)]);
    stage.stores.finish_epoch();
    stage.let_go();
    assert_eq!(stage.len("items"), 2, "of those that the epoch has changed");
    stage.stores.abort_epoch().unwrap();
    let before = [(0, 1, "a"), (0, 2, "b")].map(|(key, id, note)| (key, id, note.to_owned()));
    assert_eq!(stage.find(1, &[Some(7), Some(8)]), before);
    stage.evict_all();
    assert_eq!(stage.len("items"), 0);
    assert_eq!(stage.find(1, &[Some(7), Some(8)]), before);
    assert_eq!(rows(stage.store("items")), notes_of(&[(1, "a"), (2, "b"), (9, "c")]));
}

#[test]
fn a_truncate_takes_what_is_on_disk_as_well() {
    let mut stage = Stage::new(an_hour());
    stage.fold("items", &[change(0, 1, "a").of(7), change(0, 2, "b").of(7)]);
    stage.evict_all();
    stage.stores.begin_epoch();
    let mut changelog = stage.changelog("items", &[change(90, 3, "after").of(7)]);
    let offset = Offset::new(7, 50);
    changelog.truncations =
        vec![Truncation { offset, position: Position(50), source_ts: None, scn: None }];
    let folded = stage.stores.fold(changelog).unwrap();
    assert_eq!((folded.truncated, folded.delta.deleted.num_rows()), (2, 2));
    assert_eq!(rows(stage.store("items")), notes_of(&[(3, "after")]));
    assert_eq!(stage.find(1, &[Some(7)]), [(0, 3, "after".to_owned())]);
    stage.stores.abort_epoch().unwrap();
    assert_eq!(rows(stage.store("items")), notes_of(&[(1, "a"), (2, "b")]));
    stage.evict_all();
    assert_eq!(rows(stage.store("items")), notes_of(&[(1, "a"), (2, "b")]));
}

#[test]
fn rows_of_a_table_that_is_kept_in_memory_stay() {
    let mut stage = Stage::new(an_hour());
    stage.stores.keep_in_memory("items");
    stage.fold("items", &[change(0, 1, "")]);
    stage.evict_all();
    assert_eq!(stage.len("items"), 1);
}

#[test]
fn a_group_is_cut_by_all_of_its_members() {
    let group = Some(GroupBound { column: 1, limit: 4, keep: 2 });
    let mut stage = Stage::new(TableOptions { group, ..an_hour() });
    for id in 1..=4 {
        stage.fold("orders", &[change(0, id, "n").of(9), change(0, 10 + id, "n")]);
        stage.evict_all();
        assert_eq!(stage.len("orders"), 0);
    }
    let ids =
        |stage: &Stage| rows(stage.store("orders")).iter().map(|row| row.0).collect::<Vec<_>>();
    stage.stores.begin_epoch();
    assert_eq!(stage.fold("orders", &[change(0, 5, "n").of(9)]).trimmed, 3);
    assert_eq!(ids(&stage), [4, 5, 11, 12, 13, 14]);
    stage.stores.abort_epoch().unwrap();
    assert_eq!(ids(&stage), [1, 2, 3, 4, 11, 12, 13, 14]);
    stage.evict_all();
    assert_eq!(stage.fold("orders", &[change(0, 5, "n").of(9)]).trimmed, 3);
    stage.evict_all();
    assert_eq!(ids(&stage), [4, 5, 11, 12, 13, 14], "what was cut stays away");
}

#[test]
fn references_that_do_not_fit_are_refused() {
    let of = |name: &str, parent: &str, column| {
        let references = Some(Reference { column, table: parent.to_owned() });
        table(name, TableOptions { references, ..TableOptions::default() })
    };
    let refused = |tables: &[Arc<Table>]| StateStores::new(tables, Duration::ZERO).unwrap_err();
    let error = refused(&[of("a", "x", 1)]);
    assert!(matches!(error, StateError::UnknownParent { .. }), "{error}");
    // Column 2 is a text, and the key is a number.
    let error = refused(&[of("a", "b", 2), table("b", TableOptions::default())]);
    assert!(matches!(error, StateError::ReferenceMismatch { .. }), "{error}");
}
