//! Late events: all of their windows are closed.

use super::*;
use crate::model::Window;

const DAY: i64 = 24 * HOUR;

/// `orders` in windows of a day and of an hour.
struct Stage {
    stores: StateStores,
    orders: Arc<Table>,
}

impl Stage {
    /// The watermark is an hour into the third day.
    fn new(windows: &[Window]) -> Self {
        let orders = table("orders", TableOptions { event_time: Some(3), ..an_hour() });
        let mut stores = StateStores::new(&[Arc::clone(&orders)], Duration::ZERO).unwrap();
        stores.note_windows("orders", windows.to_vec());
        let mut stage = Self { stores, orders };
        stage.late(&[change(1, 1, "").at(49 * HOUR)]);
        stage
    }

    fn late(&mut self, changes: &[Change]) -> Vec<bool> {
        let changelog = changelog(&self.orders, changes);
        let advanced = self.stores.advance(std::slice::from_ref(&changelog));
        self.stores.late(&changelog, &advanced.behind)
    }
}

#[test]
fn an_event_is_late_when_the_longest_of_its_windows_is_closed() {
    let mut stage = Stage::new(&[DAY, HOUR].map(|length| Window { length, origin: Some(0) }));
    let changes = [
        change(700, 50, "").at(23 * HOUR),
        change(701, 51, "").at(-HOUR),
        // Its hour is closed, its day is not.
        change(702, 52, "").at(48 * HOUR),
        change(703, 53, "").at(50 * HOUR),
    ];
    assert_eq!(stage.late(&changes), [true, true, false, false]);
}

#[test]
fn without_windows_late_is_what_is_below_the_watermark() {
    let mut stage = Stage::new(&[]);
    let changes = [change(700, 50, "").at(HOUR), change(701, 51, "").at(49 * HOUR + 1)];
    assert_eq!(stage.late(&changes), [true, false]);
}
