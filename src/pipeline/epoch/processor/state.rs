//! What becomes of the state when epochs are committed or taken back, and when memory is full.

use crate::model::{CommittedEpoch, Epoch, Upkeep};
use crate::pipeline::epoch::counters;
use crate::pipeline::epoch::epochs_in_flight::Computed;
use crate::pipeline::error::PipelineError;

use super::Processor;

impl Processor {
    /// The target has all epochs up to this one.
    pub(crate) fn committed(&mut self, last: Epoch) -> Result<(), PipelineError> {
        let Self { epochs, stores, transforms, known, .. } = self;
        epochs.commit(Computed::new(stores, transforms), last, |taken| known.extend(taken))?;
        if last > self.committed {
            self.committed = last;
            stores.note_committed(CommittedEpoch { epoch: last, run_id: self.run_id.clone() });
        }
        self.finish_flush(false)?;
        if self.epochs.are_committed() && self.needs_flush()? {
            self.flush()?;
        }
        Ok(())
    }

    /// Whether no epoch is to begin before all are committed, so that the state can be flushed.
    pub(crate) fn waits_for_commits(&mut self) -> Result<bool, PipelineError> {
        Ok(!self.epochs.are_committed() && self.needs_flush()?)
    }

    fn needs_flush(&mut self) -> Result<bool, PipelineError> {
        let upkeep = self.transforms.changed_bytes()?;
        Ok(self.stores.needs_flush(self.messages, upkeep))
    }

    /// Begins to bring the state to the disk; all epochs are committed. Where the disk takes nothing, the state there stays
    /// what it was.
    pub(super) fn flush(&mut self) -> Result<(), PipelineError> {
        self.finish_flush(true)?;
        match self.stores.begin_flush() {
            Ok(None) => {}
            Ok(Some(mut flush)) => {
                let operators = self.transforms.flush(flush.writes())?;
                flush.note_operators(operators);
                self.stores.run_flush(flush);
            }
            Err(error) => counters::count_flush(Err(error)),
        }
        Ok(())
    }

    /// Takes in what has become of a flush that was under way. `waits` for its end.
    pub(super) fn finish_flush(&mut self, waits: bool) -> Result<(), PipelineError> {
        if let Some(flushed) = self.stores.finish_flush(waits) {
            self.transforms.note_flushed(flushed.is_ok())?;
            counters::count_flush(flushed);
        }
        Ok(())
    }

    /// Brings the state to the disk.
    pub(crate) fn close(&mut self, last: Epoch) -> Result<(), PipelineError> {
        self.committed(last)?;
        if self.epochs.are_committed() {
            self.flush()?;
            self.finish_flush(true)?;
        }
        Ok(())
    }

    /// Takes back all epochs that the target does not have: their messages are to come again.
    pub(crate) fn abort(&mut self) -> Result<(), PipelineError> {
        while let Some(newest) =
            self.epochs.abort_newest(Computed::new(&mut self.stores, &mut self.transforms))?
        {
            self.untold_changes.splice(0..0, newest.schema_changes);
            self.last = Epoch(newest.epoch.0 - 1);
        }
        Ok(())
    }

    /// Whether an epoch has failed and could not be taken back, so that the state is not to be used further.
    pub(crate) fn is_broken(&self) -> bool {
        self.epochs.has_open()
    }

    /// Lets leave memory what the disk has. Where the disk takes nothing, all stays, until memory is full.
    pub(super) fn evict(&mut self) -> Result<(), PipelineError> {
        let mut upkeep = self.upkeep()?;
        if self.stores.is_full(upkeep) {
            self.finish_flush(true)?;
            let surplus = self.stores.surplus_upkeep(upkeep);
            counters::count_evicted(self.stores.evict(upkeep));
            self.transforms.let_go(surplus)?;
            upkeep = self.upkeep()?;
        } else {
            counters::count_evicted(self.stores.evict(upkeep));
        }
        let is_full = self.stores.is_full(upkeep);
        self.stores.note_full(is_full);
        counters::show_memory(&self.stores, &self.transforms);
        Ok(())
    }

    fn upkeep(&mut self) -> Result<Upkeep, PipelineError> {
        Ok(self.transforms.upkeep()?.into_iter().map(|(_, upkeep)| upkeep).sum())
    }
}
