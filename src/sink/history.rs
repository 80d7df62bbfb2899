//! What a ledger has of the history of its pipeline.

use std::collections::BTreeMap;

use crate::model::{Epoch, RecordedEpoch};

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::OffsetSet;

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
}
