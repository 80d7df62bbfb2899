//! Rows that ttl drops.

use super::*;
use crate::model::{GroupBound, Reference, Window};

const SECOND: i64 = 1_000_000;

/// Tables `orders` and `items`, which reference it, and `log`, which moves the source's clock.
struct Stage {
    stores: StateStores,
    tables: Vec<Arc<Table>>,
    position: i64,
}

impl Stage {
    fn new(orders: TableOptions, items: TableOptions) -> Self {
        let references = Some(Reference { column: 1, table: "orders".to_owned() });
        let tables = vec![
            table("items", TableOptions { references, ..items }),
            table("orders", orders),
            table("log", TableOptions { ttl: None, ..an_hour() }),
        ];
        let stores = StateStores::new(&tables, Duration::from_secs(10)).unwrap();
        Self { stores, tables, position: 0 }
    }

    fn fold(&mut self, table: &str, changes: &[Change]) {
        let mut changes = changes.to_vec();
        for change in &mut changes {
            self.position += 1;
            change.position = self.position;
        }
        let changelog = self.changelog(table, &changes);
        self.stores.advance(std::slice::from_ref(&changelog));
        self.stores.fold(changelog).unwrap();
    }

    fn changelog(&self, table: &str, changes: &[Change]) -> Changelog {
        changelog(self.tables.iter().find(|t| t.name == table).unwrap(), changes)
    }

    /// Updates of another table, up to this time.
    fn pass(&mut self, updates: i64, time: i64) {
        let changes: Vec<Change> = (0..updates).map(|id| change(0, id, "").at(time)).collect();
        self.fold("log", &changes);
    }

    /// 500 updates after which everything is landed; what then expires.
    fn expire_at(&mut self, time: i64) -> Vec<(String, usize)> {
        self.pass(500, time);
        self.stores.mark_landed();
        self.expire()
    }

    fn expire(&mut self) -> Vec<(String, usize)> {
        counts(&self.stores.expire().unwrap())
    }

    fn len(&self, table: &str) -> usize {
        self.store(table).len()
    }

    fn store(&self, table: &str) -> &TableStore {
        self.stores.stores().find(|store| store.table().name == table).unwrap()
    }
}

fn dropped(table: &str, count: usize) -> Vec<(String, usize)> {
    vec![(table.to_owned(), count)]
}

/// How many rows each table has lost.
fn counts(expired: &Expired) -> Vec<(String, usize)> {
    expired.iter().map(|delta| (delta.table.clone(), delta.deleted.num_rows())).collect()
}

#[test]
fn ttl_goes_by_the_clock_of_the_source() {
    let mut stage = Stage::new(an_hour(), an_hour());
    stage.fold("orders", &[change(0, 1, "").at(0), change(0, 2, "").at(SECOND)]);
    assert_eq!(stage.expire_at(HOUR), vec![]);
    assert!(!stage.store("orders").has_dropped());
    assert_eq!(stage.expire_at(HOUR + 1), dropped("orders", 1));
    assert_eq!(rows(stage.store("orders")), [(2, String::new())]);
    assert!(stage.store("orders").has_dropped());
    assert!(!stage.store("items").has_dropped());
}

#[test]
fn ttl_is_looked_at_every_500_updates() {
    let mut stage = Stage::new(an_hour(), an_hour());
    stage.fold("orders", &[change(0, 1, "").at(0)]);
    stage.pass(498, 2 * HOUR);
    stage.stores.mark_landed();
    assert_eq!(stage.expire(), vec![]);
    stage.pass(1, 2 * HOUR);
    stage.stores.mark_landed();
    assert_eq!(stage.expire(), dropped("orders", 1));
}

#[test]
fn a_row_without_ttl_stays_for_ever() {
    let mut stage = Stage::new(TableOptions { ttl: None, ..an_hour() }, an_hour());
    stage.fold("orders", &[change(0, 1, "").at(0)]);
    assert_eq!(stage.expire_at(1_000_000 * HOUR), vec![]);
    assert_eq!(stage.len("orders"), 1);
}

#[test]
fn a_row_stays_while_a_window_over_it_is_open() {
    let orders = TableOptions { event_time: Some(3), ..an_hour() };
    let mut stage = Stage::new(orders, an_hour());
    let window = Window { length: 5 * HOUR, origin: Some(0) };
    stage.stores.keep_for_windows("orders", vec![window]);
    stage.fold("orders", &[change(0, 1, "").at(0)]);
    // The watermark goes by the event time of orders alone, and is 10 s behind.
    assert_eq!(stage.expire_at(4 * HOUR), vec![]);
    stage.fold("orders", &[change(0, 2, "").at(5 * HOUR + 10 * SECOND)]);
    assert_eq!(stage.expire_at(5 * HOUR + 10 * SECOND), vec![]);
    stage.fold("orders", &[change(0, 2, "").at(5 * HOUR + 10 * SECOND + 1)]);
    assert_eq!(stage.stores.clock().watermark, Some(5 * HOUR + 1));
    assert_eq!(stage.expire_at(5 * HOUR + 11 * SECOND), dropped("orders", 1));
}

#[test]
fn a_row_in_memory_keeps_the_rows_that_reference_it() {
    let mut stage = Stage::new(an_hour(), an_hour());
    stage.fold("orders", &[change(0, 1, "").at(HOUR)]);
    let items = [change(0, 1, "").of(1), change(0, 2, "").of(99), change(0, 3, "")];
    stage.fold("items", &items);
    assert_eq!(stage.expire_at(HOUR + 1), dropped("items", 2));
    assert_eq!(rows(stage.store("items")), [(1, String::new())]);
    let both = vec![("orders".to_owned(), 1), ("items".to_owned(), 1)];
    assert_eq!(stage.expire_at(2 * HOUR + 1), both);
}

#[test]
fn a_chain_of_references_is_followed_in_any_order_of_declaration() {
    let reference = |parent: &str| TableOptions {
        references: Some(Reference { column: 1, table: parent.to_owned() }),
        ..an_hour()
    };
    let tables =
        [table("c", reference("b")), table("b", reference("a")), table("a", reference("a"))];
    let mut stores = StateStores::new(&tables, Duration::ZERO).unwrap();
    // Of `a`, row 2 references row 1, which is new.
    let a = [change(1, 1, "").at(2 * HOUR), change(2, 2, "").of(1)];
    let b = [change(3, 7, "").of(2)];
    let many: Vec<Change> = (0..500).map(|id| change(10 + id, id, "").of(id % 8)).collect();
    let changes =
        [changelog(&tables[2], &a), changelog(&tables[1], &b), changelog(&tables[0], &many)];
    stores.advance(&changes);
    for changelog in changes {
        stores.fold(changelog).unwrap();
    }
    stores.mark_landed();
    assert_eq!(counts(&stores.expire().unwrap()), [("c".to_owned(), 438)]);
    let lens: Vec<usize> = stores.stores().map(|store| store.len()).collect();
    assert_eq!(lens, [2, 1, 62]);
}

#[test]
fn references_that_cannot_be_followed_are_refused() {
    let of = |name: &str, parent: &str, column| {
        let references = Some(Reference { column, table: parent.to_owned() });
        table(name, TableOptions { references, ..TableOptions::default() })
    };
    let refused = |tables: &[Arc<Table>]| StateStores::new(tables, Duration::ZERO).unwrap_err();
    let error = refused(&[of("a", "x", 1)]);
    assert!(matches!(error, StateError::UnknownParent { .. }), "{error}");
    let error = refused(&[of("a", "b", 1), of("b", "a", 1)]);
    assert!(matches!(error, StateError::ReferenceCycle { .. }), "{error}");
    // Column 2 is a text, and the key is a number.
    let error = refused(&[of("a", "b", 2), table("b", TableOptions::default())]);
    assert!(matches!(error, StateError::ReferenceMismatch { .. }), "{error}");
}

#[test]
fn a_delete_is_remembered_for_ttl_so_that_older_changes_stay_older() {
    let mut stage = Stage::new(an_hour(), an_hour());
    stage.fold("orders", &[change(0, 1, "").at(0), delete(0, 1).at(0)]);
    let late = stage.changelog("orders", &[change(1, 1, "late")]);
    assert_eq!(stage.expire_at(HOUR), vec![]);
    assert_eq!(stage.stores.fold(late.clone()).unwrap().stale, 1);
    assert_eq!(stage.expire_at(HOUR + 1), vec![]);
    assert!(stage.store("orders").known_keys().next().is_none(), "the delete is forgotten");
    assert_eq!(stage.store("orders").remembered_deletes(), 0);
    assert!(!stage.store("orders").has_dropped(), "a deleted row is not a dropped one");
}

#[test]
fn only_the_last_delete_of_a_key_counts() {
    let mut stage = Stage::new(an_hour(), an_hour());
    let changes = [delete(0, 1).at(0), change(0, 1, "").at(1), delete(0, 1).at(HOUR)];
    stage.fold("orders", &changes);
    stage.expire_at(HOUR + 1);
    assert_eq!(stage.store("orders").known_keys().count(), 1);
    stage.fold("orders", &[change(0, 1, "back").at(2 * HOUR)]);
    stage.expire_at(2 * HOUR + 1);
    assert_eq!(rows(stage.store("orders")), [(1, "back".to_owned())]);
}

#[test]
fn a_row_of_an_epoch_that_may_be_in_flight_stays() {
    let mut stage = Stage::new(an_hour(), an_hour());
    stage.fold("orders", &[change(0, 1, "").at(0)]);
    for _ in 0..2 {
        stage.pass(500, 5 * HOUR);
        assert_eq!(stage.expire(), vec![]);
    }
    stage.pass(500, 5 * HOUR);
    assert_eq!(stage.expire(), dropped("orders", 1));
}

/// Table, keys and who needs them.
fn missing(stage: &Stage, changelog: &Changelog) -> Vec<(String, Vec<i64>, Vec<Vec<usize>>)> {
    let changed = stage.stores.missing_changed(changelog).unwrap();
    let missing = changed.into_iter().chain(stage.stores.missing_parents(changelog).unwrap());
    let keys = |keys: &RecordBatch| keys.column(0).as_primitive::<Int64Type>().values().to_vec();
    missing.map(|m| (m.table.name.clone(), keys(&m.keys), m.needed_by)).collect()
}

#[test]
fn rows_are_missing_only_where_ttl_has_dropped_any() {
    let mut stage = Stage::new(an_hour(), an_hour());
    stage.fold("orders", &[change(0, 1, "").at(0), delete(0, 2).at(2 * HOUR)]);
    stage.fold("orders", &[change(0, 3, "").at(2 * HOUR)]);
    let changes: Vec<Change> = [1, 2, 3, 4, 1].map(|id| change(900, id, "")).to_vec();
    let orders = stage.changelog("orders", &changes);
    assert_eq!(missing(&stage, &orders), vec![]);
    assert_eq!(stage.expire_at(2 * HOUR), dropped("orders", 1));
    // A row that is known to be deleted is not missing.
    let expected = ("orders".to_owned(), vec![1, 4], vec![vec![0, 4], vec![3]]);
    assert_eq!(missing(&stage, &orders), [expected]);
}

#[test]
fn the_row_that_is_referenced_before_or_after_a_change_may_be_missing() {
    let mut stage = Stage::new(an_hour(), an_hour());
    stage.fold("orders", &[change(0, 1, "").at(0), change(0, 2, "").at(2 * HOUR)]);
    stage.fold("items", &[change(0, 10, "").of(1).at(2 * HOUR)]);
    assert_eq!(stage.expire_at(2 * HOUR), dropped("orders", 1));
    let items = [
        change(900, 10, "moves to 2").of(2),
        change(901, 11, "").of(2),
        change(902, 12, "").of(1),
        change(903, 13, "has none"),
    ];
    let items = stage.changelog("items", &items);
    let expected = ("orders".to_owned(), vec![1], vec![vec![0, 2]]);
    assert_eq!(missing(&stage, &items), [expected]);
}

#[test]
fn a_row_that_the_bound_of_its_group_cut_is_not_missing() {
    let group = Some(GroupBound { column: 1, limit: 2, keep: 1 });
    let mut stage = Stage::new(an_hour(), TableOptions { group, ..an_hour() });
    stage.fold("orders", &[change(0, 1, "").at(2 * HOUR)]);
    let items: Vec<Change> = (1..=3).map(|id| change(0, id, "").of(1)).collect();
    stage.fold("items", &items);
    stage.fold("items", &[change(0, 4, "").of(77)]);
    assert_eq!(stage.expire_at(2 * HOUR), dropped("items", 1));
    assert_eq!(rows(stage.store("items")), [(3, String::new())]);
    let changes = [change(900, 1, "was cut").of(1), change(901, 4, "was dropped").of(77)];
    let items = stage.changelog("items", &changes);
    assert_eq!(missing(&stage, &items), [("items".to_owned(), vec![4], vec![vec![1]])]);
}
