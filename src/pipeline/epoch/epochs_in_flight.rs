//! Epochs that may still be taken back: the open one, and those that wait for their commit.

use std::collections::VecDeque;

use crate::model::{Epoch, EpochCommit, Offset, OffsetSet, SchemaChange};
use crate::pipeline::error::PipelineError;
use crate::state::StateStores;
use crate::transform::Transforms;

/// An epoch that waits for its commit.
pub(super) struct FinishedEpoch {
    pub(super) epoch: Epoch,
    /// Its messages, those that are held among them.
    taken: OffsetSet,
    pub(super) schema_changes: Vec<SchemaChange>,
}

/// What an epoch changes in memory.
pub(super) struct Computed<'a> {
    stores: &'a mut StateStores,
    transforms: &'a mut Transforms,
}

impl<'a> Computed<'a> {
    pub(super) fn new(stores: &'a mut StateStores, transforms: &'a mut Transforms) -> Self {
        Self { stores, transforms }
    }

    fn abort(self) -> Result<(), PipelineError> {
        self.transforms.abort_epoch()?;
        Ok(self.stores.abort_epoch()?)
    }
}

#[derive(Default)]
pub(super) struct EpochsInFlight {
    has_open: bool,
    /// The oldest first.
    finished: VecDeque<FinishedEpoch>,
}

impl EpochsInFlight {
    /// From here on everything can be taken back.
    pub(super) fn begin(&mut self, computed: Computed<'_>) -> Result<(), PipelineError> {
        self.has_open = true;
        computed.stores.begin_epoch();
        Ok(computed.transforms.begin_epoch()?)
    }

    /// The open epoch is complete, and waits for its commit.
    pub(super) fn finish(
        &mut self,
        computed: Computed<'_>,
        commit: &EpochCommit,
        taken: OffsetSet,
    ) -> Result<(), PipelineError> {
        let (epoch, schema_changes) = (commit.epoch, commit.schema_changes.clone());
        self.finished.push_back(FinishedEpoch { epoch, taken, schema_changes });
        computed.stores.finish_epoch();
        computed.transforms.finish_epoch()?;
        self.has_open = false;
        Ok(())
    }

    /// Whether an epoch has begun that was neither finished nor taken back.
    pub(super) fn has_open(&self) -> bool {
        self.has_open
    }

    /// Whether the target has all that were computed.
    pub(super) fn are_committed(&self) -> bool {
        !self.has_open && self.finished.is_empty()
    }

    /// Whether a finished one has this message.
    pub(super) fn contain(&self, offset: Offset) -> bool {
        self.finished.iter().any(|epoch| epoch.taken.contains(offset))
    }

    /// Those up to `last` stay for good; `committed` gets their messages.
    pub(super) fn commit(
        &mut self,
        computed: Computed<'_>,
        last: Epoch,
        mut committed: impl FnMut(&OffsetSet),
    ) -> Result<(), PipelineError> {
        let Computed { stores, transforms } = computed;
        while let Some(oldest) = self.finished.pop_front_if(|oldest| oldest.epoch <= last) {
            committed(&oldest.taken);
            stores.commit_epoch()?;
            transforms.commit_epoch()?;
        }
        Ok(())
    }

    /// Makes everything what it was before the open one.
    pub(super) fn abort_open(&mut self, computed: Computed<'_>) -> Result<(), PipelineError> {
        computed.abort()?;
        self.has_open = false;
        Ok(())
    }

    /// Makes everything what it was before the newest finished one; `None` if there is none.
    pub(super) fn abort_newest(
        &mut self,
        computed: Computed<'_>,
    ) -> Result<Option<FinishedEpoch>, PipelineError> {
        let newest = self.finished.pop_back();
        if newest.is_some() {
            computed.abort()?;
        }
        Ok(newest)
    }
}
