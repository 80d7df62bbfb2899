//! Tells of event and change times that are too far ahead to be believed.

use std::collections::HashSet;

use arrow::temporal_conversions::timestamp_us_to_datetime;
use metrics::counter;
use tracing::warn;

use crate::state::{Ahead, TimeKind};
use crate::telemetry::names;

/// Counts all of them, and warns once per burst: until an epoch has none of that table and kind.
#[derive(Debug, Default)]
pub(crate) struct ImplausibleTimes {
    told: HashSet<(String, TimeKind)>,
}

impl ImplausibleTimes {
    /// Takes those of one epoch; the ones that a warning was given for.
    pub(crate) fn tell<'a>(&mut self, epoch: &'a [Ahead]) -> Vec<&'a Ahead> {
        let key = |ahead: &Ahead| (ahead.table.clone(), ahead.kind);
        let is_new = |ahead: &&Ahead| !self.told.contains(&key(ahead));
        let new: Vec<&Ahead> = epoch.iter().filter(is_new).collect();
        for ahead in &new {
            warn_of(ahead);
        }
        for Ahead { table, kind, count, .. } in epoch {
            counter!(names::DOUBTED_TIMES, "table" => table.clone(), "time" => kind.as_str())
                .increment(*count as u64);
        }
        self.told = epoch.iter().map(key).collect();
        new
    }
}

fn warn_of(ahead: &Ahead) {
    let time = timestamp_us_to_datetime(ahead.time);
    let hint = match ahead.kind {
        TimeKind::SourceTs => "is the clock of the source right?",
        TimeKind::EventTime => {
            "correct the row at the source, or raise the option future of the table"
        }
    };
    warn!(
        table = ahead.table,
        offset = %ahead.offset,
        column = ahead.kind.as_str(),
        time = time.map_or_else(|| ahead.time.to_string(), |time| time.to_string()),
        events = ahead.count,
        hint,
        "a time far in the future is not believed: the row counts, but no window closes by it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Offset;

    #[test]
    fn a_burst_is_told_once() {
        let ahead = |table: &str, kind| Ahead {
            table: table.to_owned(),
            kind,
            count: 2,
            offset: Offset::new(7, 1),
            time: i64::MAX,
        };
        let mut implausible_times = ImplausibleTimes::default();
        let orders = ahead("orders", TimeKind::EventTime);
        let clock = ahead("orders", TimeKind::SourceTs);
        assert_eq!(implausible_times.tell(std::slice::from_ref(&orders)), [&orders]);
        assert_eq!(implausible_times.tell(&[orders.clone(), clock.clone()]), [&clock]);
        assert!(implausible_times.tell(&[]).is_empty());
        assert_eq!(implausible_times.tell(std::slice::from_ref(&orders)), [&orders]);
    }
}
