//! What an operator keeps from epoch to epoch: how epochs are taken back, and how it outlives the process.

use std::hash::Hash;
use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::error::Result;
use hashbrown::HashSet;

use crate::model::{EpochLog, StateSpace, StateWrites};

/// State that an epoch changes, and that can be what it was before; on disk it is that after some epoch.
pub(crate) trait OperatorState {
    fn step(&mut self, step: EpochStep) -> Result<()>;

    /// Says where the state is on disk. With the counts of its last flush it is what the disk has; otherwise it is to
    /// be loaded.
    ///
    /// # Errors
    /// If the disk can't be read.
    fn open(&mut self, space: Arc<dyn StateSpace>, kept: Option<&[u64]>) -> Result<()>;

    /// Adds the writes that bring the disk up to date; no epoch is in flight. They count as done when
    /// [`Self::note_flushed`] says so.
    fn flush(&mut self, writes: &mut dyn StateWrites);

    /// The writes of the last flush are done, or have failed.
    fn note_flushed(&mut self, is_done: bool);

    /// Where it is on disk, and what is to be told when it is opened again.
    fn kept(&self) -> Option<(&Arc<dyn StateSpace>, Vec<u64>)>;

    /// Lets about `bytes` leave memory that the disk has; how many have left. By default all stays in memory.
    fn let_go(&mut self, _bytes: usize) -> usize {
        0
    }

    /// Bytes that may leave memory when the disk has them.
    fn may_leave(&self) -> usize {
        0
    }

    /// Bytes, roughly, that differ from the disk.
    fn changed_bytes(&self) -> usize;
}

/// What is shown keys and their weights; an error ends it.
type VisitWeights<'a> = &'a mut dyn FnMut(&[u8], i64) -> Result<(), ArrowError>;

/// An operator's state that stays in memory and is on disk as well: which of its keys have changed since the last flush.
#[derive(Debug)]
pub(crate) struct ChangedKeys<K> {
    space: Option<Arc<dyn StateSpace>>,
    changed: HashSet<K>,
    flushing: Vec<K>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochStep {
    /// From here on everything can be taken back.
    Begin,
    /// All of the epoch is computed; it waits for its commit.
    Finish,
    /// The oldest finished epoch stays for good.
    Commit,
    /// Everything is what it was when the newest epoch began.
    Abort,
}

/// The changes of each epoch that may still be taken back, in their order.
#[derive(Debug)]
pub(crate) struct UndoLog<T>(EpochLog<Vec<T>>);

impl<T> Default for UndoLog<T> {
    fn default() -> Self {
        Self(EpochLog::default())
    }
}

impl<T> UndoLog<T> {
    /// Notes a change, if an epoch is open.
    pub(crate) fn note(&mut self, change: impl FnOnce() -> T) {
        if let Some(log) = self.0.open() {
            log.push(change());
        }
    }

    /// The changes to take back, the last one first; none but after an abort.
    pub(crate) fn step(&mut self, step: EpochStep) -> impl Iterator<Item = T> + use<T> {
        let mut aborted = None;
        match step {
            EpochStep::Begin => self.0.begin(Vec::new()),
            EpochStep::Finish => self.0.finish(),
            EpochStep::Commit => drop(self.0.commit()),
            EpochStep::Abort => aborted = self.0.abort(),
        }
        aborted.into_iter().flatten().rev()
    }
}

impl<K> Default for ChangedKeys<K> {
    fn default() -> Self {
        Self { space: None, changed: HashSet::new(), flushing: Vec::new(), bytes: 0 }
    }
}

impl<K: Eq + Hash + Clone + AsRef<[u8]>> ChangedKeys<K> {
    pub(crate) fn open(&mut self, space: Arc<dyn StateSpace>) {
        *self = Self { space: Some(space), ..Self::default() };
    }

    pub(crate) fn space(&self) -> Option<&Arc<dyn StateSpace>> {
        self.space.as_ref()
    }

    /// Notes a change, if there is a disk that is to have it.
    pub(crate) fn note(&mut self, key: &K) {
        if self.space.is_some() && !self.changed.contains(key) {
            self.bytes += key.as_ref().len();
            self.changed.insert(key.clone());
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the weight of each key that has changed; 0: it is gone.
    pub(crate) fn flush(&mut self, writes: &mut dyn StateWrites, weight: impl Fn(&K) -> i64) {
        let Some(space) = &self.space else { return };
        self.bytes = 0;
        for key in self.changed.drain() {
            match weight(&key) {
                0 => writes.remove(space.id(), key.as_ref()),
                weight => writes.put(space.id(), key.as_ref(), &weight.to_be_bytes()),
            }
            self.flushing.push(key);
        }
    }

    pub(crate) fn note_flushed(&mut self, is_done: bool) {
        let keys = std::mem::take(&mut self.flushing);
        if !is_done {
            keys.iter().for_each(|key| self.note(key));
        }
    }

    /// Shows all keys that are on disk, with their weights.
    pub(crate) fn each(&self, visit: VisitWeights<'_>) -> Result<(), ArrowError> {
        let Some(space) = &self.space else { return Ok(()) };
        space.each(&mut |key, weight| {
            let weight = weight.try_into().map(i64::from_be_bytes);
            visit(key, weight.map_err(|error| ArrowError::from_external_error(Box::new(error)))?)
        })
    }
}
