//! How far the state on disk is, and what is on its way there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::{Engine, Kind, Number, Writes};
use super::error::DiskError;
use super::mark::Mark;
use crate::model::CommittedEpoch;

/// Keys that are removed after a flush of what is no longer used.
const REMOVED_AFTER_A_FLUSH: usize = 100_000;

/// What is to be written: all that has changed since the last flush, and the mark that says so.
#[derive(Debug)]
pub(in crate::state) struct Flush {
    pub(in crate::state) writes: Writes,
    pub(in crate::state) mark: Mark,
    pub(in crate::state) begun_at: Instant,
}

/// A flush that is being written, beside the epochs that come.
#[derive(Debug)]
struct RunningFlush(Option<JoinHandle<Result<Flushed, DiskError>>>);

/// What a flush has done.
#[derive(Debug)]
pub(in crate::state) struct Flushed {
    /// The state on disk is the one after it.
    pub(in crate::state) epoch: CommittedEpoch,
    pub(in crate::state) took: Duration,
    /// Numbers that are free.
    freed: Vec<Number>,
}

impl Flush {
    /// Writes all of it or nothing.
    fn write(self, engine: &Arc<Engine>, unused: &[Number]) -> Result<Flushed, DiskError> {
        let Self { mut writes, mark, begun_at } = self;
        let (key, value) = mark.record();
        writes.insert(Kind::Marks, key, &value);
        writes.commit()?;
        engine.sync()?;
        let took = begun_at.elapsed();
        let mut freed = Vec::new();
        for number in unused {
            // It costs disk, and nothing else, until it is removed: the next flush goes on.
            match engine.remove_some(*number, REMOVED_AFTER_A_FLUSH) {
                Ok(true) => freed.push(*number),
                Ok(false) | Err(_) => break,
            }
        }
        Ok(Flushed { epoch: mark.epoch, took, freed })
    }
}

impl RunningFlush {
    fn is_done(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn join(&mut self) -> Option<Result<Flushed, DiskError>> {
        Some(self.0.take()?.join().unwrap_or(Err(DiskError::Stopped)))
    }
}

impl Drop for RunningFlush {
    /// Whoever reads the mark next is to read the one of this flush.
    fn drop(&mut self) {
        drop(self.join());
    }
}

/// How often the state is flushed, unless much has changed or epochs are large.
const INTERVAL: Duration = Duration::from_secs(2);

/// The state of a pipeline on disk, and how far it is.
#[derive(Debug)]
pub(in crate::state) struct Durable {
    pub(in crate::state) pipeline: String,
    /// The newest committed epoch.
    pub(in crate::state) committed: Option<CommittedEpoch>,
    /// The epoch of the mark on disk.
    pub(in crate::state) flushed: Option<CommittedEpoch>,
    running: Option<RunningFlush>,
    /// When the last flush began.
    pub(in crate::state) begun_at: Option<Instant>,
    /// How long it took.
    pub(in crate::state) took: Duration,
    pub(in crate::state) interval: Duration,
    /// What a start found.
    pub(in crate::state) found: Option<Mark>,
    /// By table: its number on disk.
    pub(in crate::state) numbers: BTreeMap<String, Number>,
    /// Numbers of what operators keep.
    pub(in crate::state) spaces: BTreeSet<Number>,
    /// Numbers with keys that no mark names any more.
    unused: BTreeSet<Number>,
}

impl Default for Durable {
    fn default() -> Self {
        Self {
            pipeline: String::new(),
            committed: None,
            flushed: None,
            running: None,
            begun_at: None,
            took: Duration::ZERO,
            interval: INTERVAL,
            found: None,
            numbers: BTreeMap::new(),
            spaces: BTreeSet::new(),
            unused: BTreeSet::new(),
        }
    }
}

impl Durable {
    /// One that has no keys and that nothing uses.
    pub(in crate::state) fn free_number(&self) -> Number {
        let found = self.found.iter().flat_map(Mark::numbers);
        let in_use = self.numbers.values().chain(&self.spaces).chain(&self.unused);
        let taken: BTreeSet<Number> = found.chain(in_use.copied()).collect();
        (0..=Number::MAX).find(|number| !taken.contains(number)).unwrap_or(Number::MAX)
    }

    /// Looks for keys that the mark which was found does not name.
    pub(in crate::state) fn note_unused(&mut self, engine: &Engine) -> Result<(), DiskError> {
        self.unused = engine.numbers()?;
        let named = self.found.iter().flat_map(Mark::numbers).collect::<Vec<_>>();
        self.unused.retain(|number| !named.contains(number));
        Ok(())
    }

    /// Writes a flush beside the epochs that come.
    pub(in crate::state) fn run(&mut self, engine: &Arc<Engine>, flush: Flush) {
        let named = flush.mark.numbers();
        self.unused.extend(self.found.iter().flat_map(Mark::numbers));
        self.unused.retain(|number| !named.contains(number));
        let (engine, unused) =
            (Arc::clone(engine), self.unused.iter().copied().collect::<Vec<_>>());
        self.begun_at = Some(flush.begun_at);
        self.found = Some(flush.mark.clone());
        let thread = std::thread::spawn(move || flush.write(&engine, &unused));
        self.running = Some(RunningFlush(Some(thread)));
    }

    pub(in crate::state) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// What has become of the flush that was under way; `None` if there was none, or it goes on. `waits` for its end.
    pub(in crate::state) fn finished(&mut self, waits: bool) -> Option<Result<Flushed, DiskError>> {
        let mut running = self.running.take_if(|running| waits || running.is_done())?;
        let done = running.join()?;
        if let Ok(flushed) = &done {
            self.took = flushed.took;
            self.flushed = Some(flushed.epoch.clone());
            flushed.freed.iter().for_each(|number| {
                self.unused.remove(number);
            });
        }
        Some(done)
    }
}
