//! What becomes of the state when epochs are committed or taken back, and when memory is full.

use std::time::Duration;

use crate::model::{CommittedEpoch, Epoch};
use crate::pipeline::epoch::counters;
use crate::pipeline::epoch::epochs_in_flight::Computed;
use crate::pipeline::error::PipelineError;

use super::Processor;

/// How long an end waits for the disk: what is not there then is read from the landing tables.
const LAST_FLUSH: Duration = Duration::from_secs(5);

impl Processor {
    /// The target has all epochs up to this one.
    pub(crate) fn committed(&mut self, last: Epoch) -> Result<(), PipelineError> {
        let Self { epochs, stores, transforms, known, .. } = self;
        epochs.commit(Computed::new(stores, transforms), last, |taken| known.extend(taken))?;
        if last > self.committed {
            self.committed = last;
            stores.note_committed(CommittedEpoch { epoch: last, run_id: self.run_id.clone() });
            counters::count_flush(stores.flush(self.messages));
        }
        Ok(())
    }

    /// Brings the state to the disk, as far as it is committed.
    pub(crate) fn close(&mut self, last: Epoch) {
        if self.committed(last).is_ok() {
            counters::count_flush(self.stores.flush_all(LAST_FLUSH));
        }
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

    /// Lets rows leave memory. Where the disk takes none, all stay, until memory is full.
    pub(super) fn evict(&mut self) {
        let upkeep = self.transforms.memory().map(|(_, bytes)| bytes).sum();
        counters::count_evicted(self.stores.evict(upkeep));
        counters::show_memory(&self.stores, &self.transforms);
    }
}
