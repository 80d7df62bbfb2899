//! The epochs that this process has committed of late, and has seen in the ledger.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{Epoch, EpochCommit, LedgerEntry, OffsetSet};
use crate::sink::LedgerHistory;

/// The checkpoints have what is older.
const EPOCHS: usize = 1_000;
/// Ranges of offsets of all of them together.
const RANGES: usize = 200_000;

/// Shared by the sessions of a process and their committers.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentEpochs {
    pipeline: Arc<str>,
    epochs: Arc<Mutex<VecDeque<RecentEpoch>>>,
}

/// An epoch, and who has committed it.
#[derive(Debug, Clone)]
pub(crate) struct RecentEpoch {
    pub(crate) entry: LedgerEntry,
    /// `false`: another process, of whose epoch nothing else is known.
    pub(crate) is_own: bool,
}

impl RecentEpochs {
    pub(crate) fn new(pipeline: &str) -> Self {
        Self { pipeline: pipeline.into(), epochs: Arc::default() }
    }

    /// An epoch is committed.
    pub(crate) fn note(&self, commit: &EpochCommit, run_id: &str) {
        let entry = commit.entry(&self.pipeline, run_id);
        self.add(RecentEpoch { entry, is_own: true });
    }

    /// The ledger's newest epoch may be another process's.
    pub(crate) fn note_ledger(&self, ledger: &LedgerHistory) {
        let Some((epoch, run_id)) = ledger.runs.last_key_value() else { return };
        let is_known = self.epochs().back().is_some_and(|newest| newest.entry.epoch >= *epoch);
        if !is_known {
            let entry = LedgerEntry {
                pipeline: self.pipeline.to_string(),
                queue: String::new(),
                epoch: *epoch,
                run_id: run_id.clone(),
                offsets: OffsetSet::default(),
                landed: BTreeMap::new(),
                results: BTreeMap::new(),
                dead_letters: 0,
                watermark: None,
                opened_at: i64::MAX,
                closed_at: i64::MIN,
                committed_at: i64::MIN,
            };
            self.add(RecentEpoch { entry, is_own: false });
        }
    }

    /// Those above an epoch.
    pub(crate) fn above(&self, epoch: Option<Epoch>) -> Vec<RecentEpoch> {
        let is_above = |recent: &&RecentEpoch| epoch.is_none_or(|it| recent.entry.epoch > it);
        self.epochs().iter().filter(is_above).cloned().collect()
    }

    fn add(&self, recent: RecentEpoch) {
        let mut epochs = self.epochs();
        epochs.push_back(recent);
        let mut ranges: usize = epochs.iter().map(|it| it.entry.offsets.range_count()).sum();
        while epochs.len() > EPOCHS || (ranges > RANGES && epochs.len() > 1) {
            let oldest = epochs.pop_front();
            ranges -= oldest.map_or(0, |it| it.entry.offsets.range_count());
        }
    }

    fn epochs(&self) -> MutexGuard<'_, VecDeque<RecentEpoch>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Offset;

    fn commit(epoch: u64, ids: u64) -> EpochCommit {
        let offsets = (0..ids).map(|id| Offset::new(7, 2 * id)).collect();
        EpochCommit { offsets, ..EpochCommit::empty(Epoch(epoch), "cdc") }
    }

    #[test]
    fn the_newest_are_kept_within_bounds() {
        let recent = RecentEpochs::default();
        for epoch in 1..=EPOCHS as u64 + 10 {
            recent.note(&commit(epoch, 1), "run");
        }
        let kept = recent.above(None);
        assert_eq!((kept.len(), kept[0].entry.epoch), (EPOCHS, Epoch(11)));
        assert_eq!(recent.above(Some(Epoch(1_000))).len(), 10);
        recent.note(&commit(2_000, RANGES as u64 + 1), "run");
        assert_eq!(recent.above(None).len(), 1, "the newest stays, whatever it takes");
    }

    #[test]
    fn the_ledger_tells_of_an_epoch_of_another_process() {
        let recent = RecentEpochs::default();
        let ledger = |epoch| LedgerHistory {
            newest: Some(Epoch(epoch)),
            runs: BTreeMap::from([(Epoch(epoch), "other".to_owned())]),
            accepted: Vec::new(),
        };
        recent.note_ledger(&ledger(5));
        recent.note_ledger(&ledger(5));
        recent.note(&commit(6, 1), "own");
        recent.note_ledger(&ledger(6));
        let known: Vec<_> = recent
            .above(None)
            .into_iter()
            .map(|RecentEpoch { entry, is_own }| (entry.epoch.0, entry.run_id, is_own))
            .collect();
        assert_eq!(known, [(5, "other".to_owned(), false), (6, "own".to_owned(), true)]);
    }
}
