//! What a ledger has of the history of its pipeline.

use std::collections::BTreeMap;

use super::LedgerRow;
use crate::model::{CommittedEpoch, Epoch, OffsetSet, RecordedEpoch};

/// The epochs of a pipeline that its ledger knows of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerHistory {
    /// The newest one; `None` if there is none.
    pub newest: Option<Epoch>,
    /// Who committed the epochs whose rows are there, the newest of them.
    pub runs: BTreeMap<Epoch, String>,
    pub accepted: Vec<AcceptedRange>,
}

/// Lost epochs that were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedRange {
    pub first: Epoch,
    pub last: Epoch,
    pub epochs: u64,
}

/// What is left of a ledger that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerTraces {
    /// One of them, in a sentence.
    pub found: String,
    /// The highest generation of positions in the landing tables.
    pub generation: Option<u32>,
}

impl LedgerHistory {
    /// Others may know of epochs from here on that the ledger lacks.
    pub fn doubtful_from(&self) -> Epoch {
        let after_newest = self.newest.map_or(Epoch(0), Epoch::next);
        self.runs.keys().next().map_or(after_newest, |first| after_newest.min(*first))
    }

    /// Whether the ledger lacks an epoch that others remember: it ends before, or has another run's epoch of that number.
    pub fn lacks(&self, recorded: &RecordedEpoch) -> bool {
        let number = recorded.epoch;
        if self.accepted.iter().any(|range| (range.first..=range.last).contains(&number)) {
            return false;
        }
        let is_above = self.newest.is_none_or(|newest| number > newest);
        let is_other = match (self.runs.get(&number), &recorded.run_id) {
            (Some(here), Some(there)) => here != there,
            _ => false,
        };
        is_above || is_other
    }
}

/// The most epochs that a start folds from landed changes.
pub(super) const MOST_SINCE: usize = 100_000;

/// The messages of the epochs after that of a state which was kept. `rows` are those of the ledger from this epoch on.
pub(super) fn messages_since(kept: &CommittedEpoch, rows: &[LedgerRow]) -> Option<OffsetSet> {
    let is_kept = |row: &LedgerRow| row.epoch == kept.epoch && row.run_id == kept.run_id;
    let follows = |(at, row): (usize, &LedgerRow)| row.epoch.0 == kept.epoch.0 + at as u64;
    let is_told = rows.len() <= MOST_SINCE
        && rows.first().is_some_and(is_kept)
        && rows.iter().enumerate().all(follows);
    if !is_told {
        return None;
    }
    let mut messages = OffsetSet::default();
    for row in &rows[1..] {
        let has_landed = row.landed.values().any(|rows| *rows > 0);
        if has_landed && row.offsets.is_empty() {
            // Dead letters that came back: their rows are those of older messages.
            return None;
        }
        messages.extend(&row.offsets);
    }
    Some(messages)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;
    use crate::model::Offset;

    fn recorded(epoch: u64, run: &str) -> RecordedEpoch {
        RecordedEpoch {
            epoch: Epoch(epoch),
            queue: "q".to_owned(),
            run_id: (!run.is_empty()).then(|| run.to_owned()),
            offsets: OffsetSet::default(),
            landed: BTreeMap::new(),
            opened_at: 0,
            committed_at: 0,
        }
    }

    #[test]
    fn an_epoch_is_lacking_above_the_newest_or_by_another_run() {
        let mut ledger = LedgerHistory {
            newest: Some(Epoch(5)),
            runs: BTreeMap::from([(Epoch(4), "a".to_owned()), (Epoch(5), "b".to_owned())]),
            accepted: Vec::new(),
        };
        assert_eq!(ledger.doubtful_from(), Epoch(4));
        let lacking = |ledger: &LedgerHistory, epoch, run| ledger.lacks(&recorded(epoch, run));
        assert!(lacking(&ledger, 6, "b") && lacking(&ledger, 6, "") && lacking(&ledger, 5, "a"));
        assert!(!lacking(&ledger, 5, "b") && !lacking(&ledger, 5, ""));
        assert!(!lacking(&ledger, 3, "c"), "its row was compacted");
        ledger.accepted.push(AcceptedRange { first: Epoch(5), last: Epoch(6), epochs: 2 });
        assert!(!lacking(&ledger, 5, "a") && !lacking(&ledger, 6, "b") && lacking(&ledger, 7, "b"));
        let empty = LedgerHistory::default();
        assert!(lacking(&empty, 1, "a"));
        assert_eq!(empty.doubtful_from(), Epoch(0));
    }

    #[test]
    fn what_came_after_a_state_is_told_only_as_a_whole() {
        let time = SystemTime::UNIX_EPOCH;
        let row = |epoch: u64, run: &str, rows: u64, ids: &[u64]| LedgerRow {
            epoch: Epoch(epoch),
            queue: "q".to_owned(),
            run_id: run.to_owned(),
            offsets: ids.iter().map(|id| Offset::new(7, *id)).collect(),
            landed: BTreeMap::from([("orders".to_owned(), rows)]),
            results: BTreeMap::new(),
            dead_letters: 0,
            watermark: None,
            opened_at: time,
            closed_at: time,
            committed_at: time,
        };
        let of =
            |epoch: u64, run: &str| CommittedEpoch { epoch: Epoch(epoch), run_id: run.to_owned() };
        let rows = [row(3, "a", 1, &[1]), row(4, "a", 2, &[2, 3]), row(5, "b", 0, &[])];
        let since = |kept: CommittedEpoch, rows: &[LedgerRow]| {
            messages_since(&kept, rows).map(|messages| messages.count())
        };
        assert_eq!(since(of(3, "a"), &rows), Some(2));
        // Another run's epoch, one that the ledger lacks, a gap, and rows of older messages.
        assert_eq!(since(of(3, "b"), &rows), None);
        assert_eq!(since(of(6, "b"), &[]), None);
        assert_eq!(since(of(2, "a"), &rows), None);
        let gap = [rows[0].clone(), rows[2].clone()];
        assert_eq!(since(of(3, "a"), &gap), None);
        let replayed = [rows[0].clone(), row(4, "a", 1, &[])];
        assert_eq!(since(of(3, "a"), &replayed), None);
    }
}
