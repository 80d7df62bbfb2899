//! Which events are late: all windows over their event time are closed.

use arrow::array::{Array, TimestampMicrosecondArray};
use hashbrown::HashMap;

use crate::model::{Changelog, Position, SystemColumn};
use crate::state::stores::StateStores;

impl StateStores {
    /// Which rows of a changelog are late. `behind` are the events that were below the watermark when they came.
    pub fn late(&self, changelog: &Changelog, behind: &HashMap<Position, i64>) -> Vec<bool> {
        if changelog.table.options.event_time.is_none() {
            return vec![false; changelog.len()];
        }
        let windows = self.windows.get(&changelog.table.name).map_or(&[][..], Vec::as_slice);
        let is_late = |row: usize| {
            let (time, watermark) =
                (event_time(changelog, row)?, behind.get(&changelog.positions[row])?);
            Some(windows.iter().all(|window| window.end(time) <= *watermark))
        };
        (0..changelog.len()).map(|row| is_late(row).unwrap_or(false)).collect()
    }
}

fn event_time(changelog: &Changelog, row: usize) -> Option<i64> {
    let column = changelog.batch.column(changelog.table.system_column(SystemColumn::EventTime));
    let times = column.as_any().downcast_ref::<TimestampMicrosecondArray>()?;
    times.is_valid(row).then(|| times.value(row))
}
