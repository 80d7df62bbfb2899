//! The state that outlives its process: what epochs have changed goes to the disk behind them, and a start goes on from there.
//!
//! Rows are flushed some at a time, so that no epoch waits for long. When all is written that had changed up to an epoch, the
//! mark says so. Rows of later epochs may be there as well: a start folds the landed changes of all epochs after the mark, and of a
//! key the newest position wins.

use std::time::{Duration, Instant};

use super::disk::{Flush, INVALID, Kind, Mark, TableMark, newest_record};
use super::error::StateError;
use super::store::TableStore;
use super::stores::StateStores;
use crate::model::{CommittedEpoch, KeptEpochs, KeyBytes, Landing};

/// Keys that are flushed after an epoch.
const AT_ONCE: usize = 1024;

/// Keys that are flushed at once at an end.
const AT_AN_END: usize = 8192;

/// Keys that may wait while epochs are large: who catches up has no time for them.
const MOST_WAITING: usize = 500_000;

/// Messages of an epoch that is no catching up.
const SMALL_EPOCH: usize = 1000;

/// How often a flush begins.
const INTERVAL: Duration = Duration::from_secs(2);

impl StateStores {
    /// Looks at what is on disk; the epochs that are in it. `None`: nothing that can be used.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn find_kept(&mut self, pipeline: &str) -> Result<Option<KeptEpochs>, StateError> {
        pipeline.clone_into(&mut self.durable.pipeline);
        let Some(engine) = &self.engine else { return Ok(None) };
        let found = Mark::read(engine, pipeline)?;
        Ok(found.map(|(mark, kept)| {
            self.durable.found = Some(mark);
            kept
        }))
    }

    /// What is on disk is of the epochs of the ledger.
    pub fn accept_kept(&mut self) {
        if let (Some(folder), Some(mark)) = (&self.folder, &self.durable.found) {
            folder.note_whole(mark.whole_epoch());
        }
    }

    /// What is on disk is of no use: it is of other epochs than the ledger.
    pub fn reject_kept(&mut self) {
        self.durable.found = None;
    }

    /// Takes the rows of a table that are on disk for its own, if they have its shape; otherwise all rows are to be
    /// loaded.
    ///
    /// # Errors
    /// If the disk can't be read or written.
    pub(super) fn attach(&mut self, table: &str) -> Result<bool, StateError> {
        let (Some(engine), Some(at)) = (self.engine.clone(), self.by_name.get(table).copied())
        else {
            return Ok(false);
        };
        let shape = self.stores[at].shape();
        let lands = self.stores[at].table().options.landing != Landing::None;
        let kept = self.durable.found.as_ref().and_then(|mark| mark.tables.get(table));
        let kept = kept.filter(|kept| kept.shape == shape && lands).cloned();
        let number = match &kept {
            Some(kept) => kept.number,
            None => self.durable.free_number(),
        };
        self.durable.numbers.insert(table.to_owned(), number);
        let store = &mut self.stores[at];
        store.use_disk(&engine, number)?;
        match &kept {
            Some(kept) => store.set_truncated(kept.truncated),
            None => store.clear_disk()?,
        }
        Ok(kept.is_some())
    }

    /// Gives a table a place on disk that has rows and was not loaded.
    pub(super) fn attach_late(&mut self, at: usize) -> Result<(), StateError> {
        let name = self.stores[at].table().name.clone();
        if !self.durable.numbers.contains_key(&name) {
            self.attach(&name)?;
            self.stores[at].mark_dirty();
        }
        Ok(())
    }

    /// Sets the clocks as they were with the rows on disk.
    pub(super) fn restore_clocks(&mut self) {
        if let Some(mark) = &self.durable.found {
            self.clocks.go_on_from(&mark.clocks);
        }
    }

    /// Notes the newest epoch that the target has.
    pub fn note_committed(&mut self, committed: CommittedEpoch) {
        self.durable.committed = Some(committed);
    }

    /// Brings some of what has changed to the disk; `messages` are those of the epoch at hand. To be called when epochs are
    /// committed.
    ///
    /// # Errors
    /// If the disk can't be read or written. Nothing is lost: the mark stays where it was.
    pub fn flush(&mut self, messages: usize) -> Result<(), StateError> {
        let waiting: usize = self.stores.iter().map(TableStore::dirty).sum();
        let is_catching_up = messages > SMALL_EPOCH && waiting < MOST_WAITING;
        let is_early = self.durable.flush.is_none()
            && self.durable.begun_at.is_some_and(|begun| begun.elapsed() < INTERVAL);
        if self.engine.is_none() || is_catching_up || is_early {
            return Ok(());
        }
        self.flush_some(AT_ONCE)
    }

    /// Brings all that has changed to the disk, as far as the time is enough for it.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn flush_all(&mut self, within: Duration) -> Result<(), StateError> {
        let begun = Instant::now();
        // What is under way first, and then what has changed since.
        for _ in 0..2 {
            self.flush_some(AT_AN_END)?;
            while self.durable.flush.is_some() && begun.elapsed() < within {
                self.flush_some(AT_AN_END)?;
            }
        }
        Ok(())
    }

    fn flush_some(&mut self, most: usize) -> Result<(), StateError> {
        let Some(flush) = self.durable.flush.take().or_else(|| self.begin_flush()) else {
            return Ok(());
        };
        self.durable.flush = self.go_on(flush, most)?;
        Ok(())
    }

    fn begin_flush(&mut self) -> Option<Flush> {
        let (engine, whole) = (self.engine.as_ref()?, self.durable.committed.clone()?);
        self.durable.begun_at = Some(Instant::now());
        let invalidations = engine.invalidations();
        let tables = self.stores.iter().filter_map(|store| {
            let name = &store.table().name;
            let number = *self.durable.numbers.get(name)?;
            let truncated = store.committed_truncate();
            let truncated = truncated.map(|it| (it.position.0, it.scn.map(|scn| scn.number())));
            Some((name.clone(), TableMark { number, shape: store.shape(), truncated }))
        });
        let mark = Mark::new(&self.durable.pipeline, whole, self.clocks.mark(), tables.collect());
        let keys = self.stores.iter_mut().map(TableStore::take_dirty).collect();
        Some(Flush { keys, mark, invalidations })
    }

    /// What is left of it.
    fn go_on(&mut self, mut flush: Flush, most: usize) -> Result<Option<Flush>, StateError> {
        let Some(engine) = self.engine.clone() else { return Ok(None) };
        let mut writes = engine.writes();
        let mut rest = most;
        let mut parts: Vec<(usize, Vec<KeyBytes>)> = Vec::new();
        for (at, keys) in flush.keys.iter_mut().enumerate() {
            let part = keys.split_off(keys.len().saturating_sub(rest));
            rest -= part.len();
            parts.push((at, part));
        }
        let is_last = flush.keys.iter().all(Vec::is_empty);
        let written = (|| {
            for (at, part) in parts.iter().filter(|(_, part)| !part.is_empty()) {
                self.stores[*at].flush(part, &mut writes)?;
            }
            if let Some(newest) = &self.durable.committed {
                let (key, value) = newest_record(newest);
                writes.insert(Kind::Marks, key, &value);
            }
            if is_last {
                let (key, value) = flush.mark.record();
                writes.insert(Kind::Marks, key, &value);
                if engine.invalidations() == flush.invalidations {
                    writes.remove(Kind::Marks, INVALID);
                }
            }
            writes.commit()?;
            if is_last {
                engine.sync()?
            }
            Ok(())
        })();
        if let Err(error) = written {
            for (at, part) in parts {
                self.stores[at].put_dirty_back(part);
            }
            for (at, keys) in flush.keys.into_iter().enumerate() {
                self.stores[at].put_dirty_back(keys);
            }
            return Err(error);
        }
        if !is_last {
            return Ok(Some(flush));
        }
        if let Some(folder) = &self.folder {
            folder.note_whole(flush.mark.whole_epoch());
        }
        Ok(None)
    }

    /// Notes the newest epoch that rows may be of which leave memory.
    pub(super) fn note_newest_on_disk(&self) -> Result<(), StateError> {
        if let (Some(engine), Some(newest)) = (&self.engine, &self.durable.committed) {
            let mut writes = engine.writes();
            let (key, value) = newest_record(newest);
            writes.insert(Kind::Marks, key, &value);
            writes.commit()?;
        }
        Ok(())
    }
}
