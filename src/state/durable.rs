//! The state that outlives its process: a start goes on from the disk.
//!
//! The state on disk is that after one epoch, and its mark says after which. A flush takes it to a later one: what has changed
//! is written in one batch with the mark. It begins only when all epochs are committed, and runs beside those that
//! come. Between flushes nothing on disk changes: what differs from it stays in memory. A start reads what the epochs
//! after the mark have changed from the landing tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::disk::{DiskSpace, Flush, Flushed, Mark, TableMark};
use super::error::StateError;
use super::store::TableStore;
use super::stores::StateStores;
use crate::model::{
    CommittedEpoch, KeptOperators, Landing, SpaceId, StateSpace, StateSpaces, StateWrites,
};

/// Messages of an epoch that is no catching up.
const SMALL_EPOCH: usize = 1000;

/// Flushes take this part of the time at most, unless memory is full of what has changed.
const SHARE_OF_TIME: u32 = 20;

/// What has changed may take this part of the memory, and no more than this.
const SHARE_OF_MEMORY: usize = 8;
const MOST_CHANGED: usize = 64 << 20;

impl StateStores {
    /// Looks at what is on disk; the epoch that it is of. `None`: nothing that can be used.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn find_kept(&mut self, pipeline: &str) -> Result<Option<CommittedEpoch>, StateError> {
        pipeline.clone_into(&mut self.durable.pipeline);
        let Some(engine) = &self.engine else { return Ok(None) };
        self.durable.found = Mark::read(engine, pipeline)?;
        self.durable.note_unused(engine)?;
        Ok(self.durable.found.as_ref().map(|mark| mark.epoch.clone()))
    }

    /// What is on disk is of the epochs of the ledger.
    pub fn accept_kept(&mut self) {
        let Some(mark) = &self.durable.found else { return };
        self.clocks.go_on_from(&mark.clocks);
        self.durable.flushed = Some(mark.epoch.clone());
        if let Some(folder) = &self.folder {
            folder.note_flushed(mark.epoch.epoch);
        }
    }

    /// What is on disk is of no use: it is of other epochs than the ledger.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn reject_kept(&mut self) -> Result<(), StateError> {
        self.durable.found = None;
        Ok(self.engine.as_ref().map_or(Ok(()), |engine| self.durable.note_unused(engine))?)
    }

    /// Takes the rows of a table that are on disk for its own, if they have its shape; otherwise all rows are to be
    /// loaded.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub(super) fn attach(&mut self, table: &str) -> Result<bool, StateError> {
        let (Some(engine), Some(at)) = (self.engine.clone(), self.by_name.get(table).copied())
        else {
            return Ok(false);
        };
        let shape = self.stores[at].shape();
        let lands = self.stores[at].table().options.landing != Landing::None;
        let kept = self.durable.found.as_ref().and_then(|mark| mark.tables.get(table));
        let Some(kept) = kept.filter(|kept| kept.shape == shape && lands).cloned() else {
            self.give_number(at)?;
            return Ok(false);
        };
        self.durable.numbers.insert(table.to_owned(), kept.number);
        let store = &mut self.stores[at];
        store.use_disk(&engine, kept.number)?;
        store.set_truncated(kept.truncated);
        store.note_flushed(true);
        Ok(true)
    }

    /// Gives a table a place on disk, on which it has no rows yet.
    fn give_number(&mut self, at: usize) -> Result<(), StateError> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let number = self.durable.free_number();
        let name = self.stores[at].table().name.clone();
        self.durable.numbers.insert(name, number);
        self.stores[at].use_disk(engine, number)
    }

    /// Writes what a table has loaded if it is much: no mark names it yet, so that it may be on disk at any time.
    pub(super) fn spill(&mut self, table: &str) -> Result<(), StateError> {
        let Some(at) = self.by_name.get(table).copied() else { return Ok(()) };
        let is_full = self.excess(std::iter::empty()).is_some();
        if is_full || self.stores[at].dirty_bytes() > self.most_changed() {
            self.stores[at].spill()?;
        }
        Ok(())
    }

    /// Notes the newest epoch that the target has.
    pub fn note_committed(&mut self, committed: CommittedEpoch) {
        self.durable.committed = Some(committed);
    }

    /// Whether the state is to be flushed as soon as all epochs are committed. `messages` are those of the epoch at hand, and
    /// `upkeep` the bytes of what results keep that have changed.
    pub fn needs_flush(&self, messages: usize, upkeep: usize) -> bool {
        let is_over = self.durable.committed == self.durable.flushed;
        if self.engine.is_none() || self.durable.is_running() || is_over {
            return false;
        }
        if self.is_full_of_changes || self.changed_bytes() + upkeep > self.most_changed() {
            return true;
        }
        let pause = self.durable.interval.max(self.durable.took * SHARE_OF_TIME);
        let is_due = self.durable.begun_at.is_none_or(|begun| begun.elapsed() >= pause);
        is_due && messages <= SMALL_EPOCH
    }

    /// Without a flush that is not asked for, unless memory is full.
    #[cfg(test)]
    pub fn flush_only_if_asked(&mut self) {
        (self.durable.interval, self.durable.begun_at) =
            (std::time::Duration::MAX, Some(Instant::now()));
    }

    /// Bytes, roughly, that differ from the disk.
    fn changed_bytes(&self) -> usize {
        self.stores.iter().map(TableStore::dirty_bytes).sum()
    }

    fn most_changed(&self) -> usize {
        let memory = self.memory_limit.map_or(usize::MAX, |limit| limit.0 as usize);
        MOST_CHANGED.min(memory / SHARE_OF_MEMORY)
    }

    /// What is to be written so that the disk has the state as it is. All epochs are committed, and no flush is under way; `None` if
    /// there is no epoch, or no disk.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn begin_flush(&mut self) -> Result<Option<StateFlush>, StateError> {
        let (Some(engine), Some(epoch)) = (self.engine.clone(), self.durable.committed.clone())
        else {
            return Ok(None);
        };
        let begun_at = Instant::now();
        let mut writes = engine.writes();
        let mut tables = BTreeMap::new();
        for at in 0..self.stores.len() {
            if !self.stores[at].has_disk() {
                self.give_number(at)?;
            }
            let store = &mut self.stores[at];
            let name = store.table().name.clone();
            let Some(number) = self.durable.numbers.get(&name).copied() else { continue };
            if let Err(error) = store.flush(&mut writes) {
                self.stores.iter_mut().for_each(|store| store.note_flushed(false));
                return Err(error);
            }
            let store = &self.stores[at];
            let truncated = store.truncated();
            let truncated = truncated.map(|it| (it.position.0, it.scn.map(|scn| scn.number())));
            tables.insert(name, TableMark { number, shape: store.shape(), truncated });
        }
        let mark = Mark::new(&self.durable.pipeline, epoch, self.clocks.mark(), tables);
        Ok(Some(StateFlush(Flush { writes, mark, begun_at })))
    }

    /// Writes it, beside the epochs that come.
    pub fn run_flush(&mut self, StateFlush(flush): StateFlush) {
        if let Some(engine) = self.engine.clone() {
            self.durable.run(&engine, flush);
        }
    }

    /// What has become of a flush that was under way: an error if the disk still has the state of an earlier epoch. `None` if none
    /// is over; `waits` for its end.
    pub fn finish_flush(&mut self, waits: bool) -> Option<Result<(), StateError>> {
        let done = self.durable.finished(waits)?;
        self.is_full_of_changes = false;
        self.has_failed_to_flush = done.is_err();
        self.stores.iter_mut().for_each(|store| store.note_flushed(done.is_ok()));
        if let (Ok(Flushed { epoch, .. }), Some(folder)) = (&done, &self.folder) {
            folder.note_flushed(epoch.epoch);
        }
        Some(done.map(drop).map_err(StateError::from))
    }
}

/// A flush that has begun.
#[derive(Debug)]
pub struct StateFlush(Flush);

impl StateFlush {
    /// Where operators write what they keep.
    pub fn writes(&mut self) -> &mut dyn StateWrites {
        &mut self.0.writes
    }

    /// Notes what the operators of each result have on disk with it.
    pub fn note_operators(&mut self, operators: BTreeMap<String, KeptOperators>) {
        self.0.mark.operators = operators;
    }
}

impl StateSpaces for StateStores {
    fn kept(&self, result: &str) -> Option<&KeptOperators> {
        self.durable.found.as_ref()?.operators.get(result)
    }

    fn open(&mut self, id: SpaceId) -> Option<Arc<dyn StateSpace>> {
        let engine = self.engine.as_ref()?;
        self.durable.spaces.insert(id.0);
        Some(DiskSpace::new(engine, id.0))
    }

    fn new_space(&mut self) -> Option<Arc<dyn StateSpace>> {
        let number = self.durable.free_number();
        self.open(SpaceId(number))
    }
}
