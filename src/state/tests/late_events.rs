//! Late events: of closed windows, and of windows that ttl has dropped rows of.

use super::*;
use crate::model::{Reference, Window};

const DAY: i64 = 24 * HOUR;

/// `orders` in windows of a day and of an hour, and `items` that reference them.
struct Stage {
    stores: StateStores,
    orders: Arc<Table>,
    items: Arc<Table>,
}

impl Stage {
    /// Order 1 of the first day is dropped; order 2 of the same day, order 3 of the day after and order
    /// 4 of the third day are in memory.
    fn new() -> Self {
        let orders = table("orders", TableOptions { event_time: Some(3), ..an_hour() });
        let references = Some(Reference { column: 1, table: "orders".to_owned() });
        let items = table("items", TableOptions { references, ..an_hour() });
        let tables = [Arc::clone(&orders), Arc::clone(&items)];
        let mut stores = StateStores::new(&tables, Duration::ZERO).unwrap();
        let windows = [DAY, HOUR].map(|length| Window { length, origin: Some(0) });
        for table in ["orders", "items"] {
            stores.keep_for_windows(table, windows.to_vec());
        }
        let mut stage = Self { stores, orders, items };
        stage.fold(&[change(1, 1, "").at(2 * HOUR)]);
        stage.fold(&[change(2, 3, "").at(26 * HOUR)]);
        let many: Vec<Change> =
            (0..500).map(|id| change(10 + id, 100 + id, "").at(49 * HOUR)).collect();
        stage.fold(&many);
        stage.fold(&[change(600, 4, "").at(49 * HOUR + 1)]);
        stage.stores.mark_landed();
        let dropped = stage.stores.expire().unwrap();
        assert_eq!(dropped[0].deleted.num_rows(), 1);
        stage.fold(&[change(601, 2, "").at(3 * HOUR)]);
        stage
    }

    fn fold(&mut self, changes: &[Change]) {
        let changelog = changelog(&self.orders, changes);
        self.stores.advance(std::slice::from_ref(&changelog));
        self.stores.fold(changelog).unwrap();
    }

    /// What each change is: forgotten, closed or on time.
    fn late(&mut self, table: &Arc<Table>, changes: &[Change]) -> Vec<&'static str> {
        let changelog = changelog(table, changes);
        let advanced = self.stores.advance(std::slice::from_ref(&changelog));
        let late = self.stores.late(&changelog, &advanced.behind).unwrap();
        late.iter()
            .map(|late| match late {
                None => "on time",
                Some(Lateness::Closed) => "closed",
                Some(Lateness::Forgotten { .. }) => "forgotten",
            })
            .collect()
    }
}

#[test]
fn a_window_is_forgotten_only_if_a_dropped_row_may_have_been_in_it() {
    let mut stage = Stage::new();
    let orders = Arc::clone(&stage.orders);
    let changes = [
        // The day of the dropped row, and one before it.
        change(700, 50, "").at(23 * HOUR),
        change(701, 51, "").at(-HOUR),
        // The day after is closed and whole, though less than a day is between it and the dropped row.
        change(702, 52, "").at(DAY + HOUR),
        change(703, 3, "").at(26 * HOUR),
        // The third day is open.
        change(704, 53, "").at(48 * HOUR),
        change(705, 4, "").at(50 * HOUR),
        // In memory, and its day has lost a row: also when it moves or goes.
        change(706, 2, "").at(50 * HOUR),
        delete(707, 2).at(50 * HOUR),
    ];
    let expected = [
        "forgotten",
        "forgotten",
        "closed",
        "closed",
        "on time",
        "on time",
        "forgotten",
        "forgotten",
    ];
    assert_eq!(stage.late(&orders, &changes), expected);
}

#[test]
fn a_row_is_as_late_as_the_one_that_it_references() {
    let mut stage = Stage::new();
    let items = Arc::clone(&stage.items);
    let changes = [
        change(700, 1, "").of(2),
        change(701, 2, "").of(3),
        change(702, 3, "").of(99),
        change(703, 4, ""),
    ];
    let expected = ["forgotten", "on time", "on time", "on time"];
    assert_eq!(stage.late(&items, &changes), expected);
    // Windows of results that don't read the items are no matter.
    stage.stores.keep_for_windows("items", vec![]);
    assert_eq!(stage.late(&items, &changes[..1]), ["on time"]);
}

#[test]
fn without_windows_nothing_is_forgotten_and_late_is_what_is_below_the_watermark() {
    let mut stage = Stage::new();
    stage.stores.keep_for_windows("orders", vec![]);
    let orders = Arc::clone(&stage.orders);
    let changes = [change(700, 50, "").at(HOUR), change(701, 51, "").at(49 * HOUR + 1)];
    assert_eq!(stage.late(&orders, &changes), ["closed", "on time"]);
}
