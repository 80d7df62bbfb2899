//! What is remembered of rows that ttl has dropped.

use crate::model::Window;

/// Event times of the rows that ttl has dropped from a table.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::state) struct DroppedTimes {
    newest: Option<i64>,
    /// Rows without an event time.
    has_timeless: bool,
}

impl DroppedTimes {
    pub(in crate::state::store) fn note(&mut self, event_time: Option<i64>) {
        self.newest = self.newest.max(event_time);
        self.has_timeless |= event_time.is_none();
    }

    /// Whether a window that the time is in may have lost rows.
    pub(in crate::state) fn touches(&self, event_time: Option<i64>, windows: &[Window]) -> bool {
        if windows.is_empty() {
            return false;
        }
        match (event_time, self.newest) {
            (None, _) => self.has_timeless,
            (Some(_), None) => false,
            // One window after the other: a longer one may be over what a shorter one gives.
            (Some(time), Some(newest)) => {
                let start = |time: i64, window: &Window| time.min(window.start(time));
                windows.iter().fold(time, start) <= newest
            }
        }
    }
}
