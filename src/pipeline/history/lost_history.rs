//! What is said about epochs that the database has lost.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use crate::model::{Epoch, LostEpochs, Offset, OffsetSet};
use crate::sink::LedgerTraces;

/// The most queues, ranges of each, and tables that are named.
const QUEUES: usize = 5;
const RANGES: usize = 8;
const TABLES: usize = 20;

/// Committed epochs are lost, and it is the operator's turn.
#[derive(Debug)]
pub struct LostHistory {
    pub(super) pipeline: String,
    /// The ledger's newest epoch.
    pub(super) newest: Option<Epoch>,
    pub(super) lost: LostEpochs,
    /// What is left of a ledger without epochs.
    pub(super) traces: Option<LedgerTraces>,
    /// What the operator has accepted, which is not this.
    pub(super) refused: Option<Epoch>,
}

impl LostHistory {
    /// The newest lost epoch, or 0 if no number is known: to be accepted by it.
    pub fn newest_lost(&self) -> Epoch {
        self.lost.newest()
    }
}

impl std::error::Error for LostHistory {}

impl fmt::Display for LostHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what(f)?;
        self.offsets(f)?;
        self.causes(f)?;
        self.way_back(f)?;
        self.way_on(f)
    }
}

impl LostHistory {
    fn what(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipeline, lost, .. } = self;
        match lost.numbers {
            Some((first, last)) => write!(
                f,
                "the database has lost {} committed epoch(s) of pipeline '{pipeline}', {first} to {last}: its ledger ",
                lost.epochs
            )?,
            None => write!(
                f,
                "the database has lost committed epochs of pipeline '{pipeline}': its ledger "
            )?,
        }
        match (self.newest, &self.traces) {
            (Some(newest), _) if lost.numbers.is_some_and(|(first, _)| first <= newest) => {
                write!(f, "has other epochs of these numbers, up to {newest}. ")
            }
            (Some(newest), _) => write!(f, "ends with epoch {newest}. "),
            (None, Some(traces)) => write!(f, "has no epoch, but {}. ", traces.found),
            (None, None) => write!(f, "has no epoch. "),
        }
    }

    fn offsets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = &self.lost;
        if let Some((since, until)) = lost.times.filter(|(since, until)| since <= until) {
            let (since, until) = (time(since), time(until));
            write!(f, "They were taken from {since} on and committed until {until}. ")?;
        }
        if lost.offsets.is_empty() {
            return write!(f, "Which messages were in them is not known here. ");
        }
        write!(
            f,
            "Their {} message(s) were acknowledged, so the broker does not bring them again by itself: ",
            lost.messages
        )?;
        for (at, (queue, offsets)) in lost.offsets.iter().take(QUEUES).enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}of queue {queue} {}", ranges(offsets))?;
        }
        let more = lost.offsets.len().saturating_sub(QUEUES);
        if more > 0 {
            write!(f, "; and of {more} more queue(s)")?;
        }
        let tables = lost.landed.iter().take(TABLES);
        let tables: Vec<String> = tables.map(|(table, rows)| format!("{table} {rows}")).collect();
        match tables.as_slice() {
            [] => write!(f, ". "),
            tables => write!(f, "; rows landed: {}. ", tables.join(", ")),
        }
    }

    fn causes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "This comes of a failover to a standby that was behind, a restored backup, or a ledger that was emptied or \
             dropped; also if checkpoint.url has the checkpoints of another database. "
        )
    }

    fn way_back(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.lost.offsets.keys().next().map_or("QUEUE", String::as_str);
        let since = self.lost.times.filter(|(since, until)| since <= until);
        let since = since.map_or_else(|| "TIME".to_owned(), |(since, _)| time(since));
        write!(
            f,
            "To get the messages back, let the broker replay them (CLI: admin, message-spool message-vpn VPN, queue \
             {queue}, start-replay from-date {since}; what the ledger has is skipped), or let Debezium make a snapshot of \
             the tables (docs/FAILURES.md, \"A database that has forgotten\"). "
        )
    }

    fn way_on(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.lost.newest();
        if let Some(refused) = self.refused {
            write!(f, "--accept-lost-epochs {refused} does not accept this. ")?;
        }
        write!(
            f,
            "Nothing was written. To go on without these epochs, or after the replay was begun, start once with \
             --accept-lost-epochs {number}: new epochs get numbers above them, and tidemark_lost_epochs says what was lost"
        )
    }
}

fn ranges(offsets: &OffsetSet) -> String {
    let range = |(first, last): (Offset, u64)| {
        let last = Offset::new(first.spool, last);
        if first == last { first.to_string() } else { format!("{first} to {last}") }
    };
    let count = offsets.range_count();
    if count <= RANGES {
        return offsets.ranges().map(range).collect::<Vec<_>>().join(", ");
    }
    let mut shown: Vec<String> = offsets.ranges().take(RANGES - 1).map(range).collect();
    let last = offsets.ranges().last().map(range).unwrap_or_default();
    shown.push(format!("{} more range(s), the last one {last}", count - shown.len()));
    shown.join(", ")
}

/// As the broker's `start-replay` takes it.
fn time(micros: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs());
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::RecordedEpoch;

    fn lost(epochs: std::ops::RangeInclusive<u64>) -> LostEpochs {
        let mut lost = LostEpochs::default();
        for epoch in epochs {
            lost.add(&RecordedEpoch {
                epoch: Epoch(epoch),
                queue: "cdc".to_owned(),
                run_id: Some("run".to_owned()),
                offsets: [epoch * 10, epoch * 10 + 5]
                    .map(|id| Offset::new(7, id))
                    .into_iter()
                    .collect(),
                landed: BTreeMap::from([("orders".to_owned(), 2)]),
                opened_at: 1_700_000_000_000_000 + epoch as i64 * 1_000_000,
                committed_at: 1_700_000_000_500_000 + epoch as i64 * 1_000_000,
            });
        }
        lost
    }

    fn history(lost: LostEpochs, newest: Option<u64>) -> LostHistory {
        let (pipeline, newest) = ("shop".to_owned(), newest.map(Epoch));
        LostHistory { pipeline, newest, lost, traces: None, refused: None }
    }

    #[test]
    fn it_names_epochs_offsets_tables_and_the_ways_out() {
        let text = history(lost(6..=7), Some(5)).to_string();
        for part in [
            "lost 2 committed epoch(s) of pipeline 'shop', 6 to 7: its ledger ends with epoch 5.",
            "taken from 2023-11-14T22:13:26Z on and committed until 2023-11-14T22:13:27Z",
            "Their 4 message(s) were acknowledged",
            "of queue cdc rmid1:00000-00000000007-00000000-0000003c, rmid1:00000-00000000007-00000000-00000041, ",
            "rows landed: orders 4.",
            "queue cdc, start-replay from-date 2023-11-14T22:13:26Z",
            "start once with --accept-lost-epochs 7:",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }

    #[test]
    fn it_stays_short_whatever_is_lost() {
        let mut many = lost(1..=5_000);
        for number in 0..100 {
            many.landed.insert(format!("table_{number}"), 1);
            let offsets = many.offsets["cdc"].clone();
            many.offsets.insert(format!("queue {number}"), offsets);
        }
        let text = history(many, None).to_string();
        assert!(text.len() < 6_000, "{} bytes", text.len());
        assert!(text.contains("9993 more range(s), the last one"), "{text}");
        assert!(text.contains("and of 96 more queue(s)"), "{text}");
    }

    #[test]
    fn a_ledger_that_is_gone_and_another_history_are_told_apart() {
        let mut gone = history(LostEpochs::default(), None);
        gone.traces =
            Some(LedgerTraces { found: "cdc_orders holds rows".to_owned(), generation: Some(2) });
        let text = gone.to_string();
        assert!(text.contains("its ledger has no epoch, but cdc_orders holds rows."), "{text}");
        assert!(text.contains("not known here"), "{text}");
        assert!(text.contains("--accept-lost-epochs 0:"), "{text}");
        let mut other = history(lost(3..=4), Some(9));
        other.refused = Some(Epoch(3));
        let text = other.to_string();
        assert!(text.contains("its ledger has other epochs of these numbers, up to 9."), "{text}");
        assert!(text.contains("--accept-lost-epochs 3 does not accept this."), "{text}");
    }
}
