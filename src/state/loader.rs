//! The state while it is loaded from landing tables: a table is opened, its rows come, and at the end the clock
//! is set by all of them.

use super::error::StateError;
use super::stores::StateStores;
use super::time::Ticks;
use crate::model::{Changelog, KeptEpochs, Window};

/// State stores that are being loaded. They have all their indexes.
#[derive(Debug)]
pub struct StateLoader {
    stores: StateStores,
    times: Ticks,
}

/// A table whose rows are loaded.
#[derive(Debug)]
pub struct TableLoader<'a>(&'a mut StateLoader, String);

impl StateLoader {
    pub fn new(stores: StateStores) -> Self {
        Self { stores, times: Ticks::default() }
    }

    /// Of its rows the columns in `read` are kept, and those that the store itself needs. `windows` are those over them.
    pub fn open(&mut self, table: &str, read: &[usize], windows: Vec<Window>) -> TableLoader<'_> {
        self.stores.keep_columns(table, read);
        self.stores.note_windows(table, windows);
        TableLoader(self, table.to_owned())
    }

    /// Which epochs are in the state on disk. `None`: nothing that can be used.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn find_kept(&mut self, pipeline: &str) -> Result<Option<KeptEpochs>, StateError> {
        self.stores.find_kept(pipeline)
    }

    /// What is on disk is of the epochs of the ledger.
    pub fn accept_kept(&mut self) {
        self.stores.accept_kept();
    }

    /// What is on disk is of no use: it is of other epochs than the ledger.
    pub fn reject_kept(&mut self) {
        self.stores.reject_kept();
    }

    /// Rows of the table are needed by no result.
    pub fn note_unread(&mut self, table: &str) {
        self.stores.note_unread(table);
    }

    /// The stores, with the clock as the loaded rows tell it and the watermark of the ledger, unless it is set.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn finish(mut self, watermark: Option<i64>) -> Result<StateStores, StateError> {
        self.stores.restore_clocks();
        self.stores.advance_to(self.times);
        self.stores.warm()?;
        if let Some(watermark) = watermark {
            self.stores.resume_watermark(watermark);
        }
        self.stores.set_start_time();
        Ok(self.stores)
    }
}

impl TableLoader<'_> {
    /// Goes on from the rows of the table on disk, if these are of use; otherwise all rows are to be loaded.
    ///
    /// # Errors
    /// If the disk can't be read or written.
    pub fn attach(&mut self) -> Result<bool, StateError> {
        self.0.stores.attach(&self.1)
    }

    /// Takes newest rows of keys, or changes.
    ///
    /// # Errors
    /// If Arrow can't process the batch, or the rows take more memory than they may.
    pub fn load(&mut self, rows: Changelog) -> Result<(), StateError> {
        let StateLoader { stores, times } = &mut *self.0;
        stores.note_times(times, &rows);
        stores.note_truncates(&rows);
        stores.fold(rows)?;
        if stores.excess(std::iter::empty()).is_none() {
            return Ok(());
        }
        stores.evict_now(0)?;
        match stores.lasting_excess(std::iter::empty()) {
            Some(excess) => Err(StateError::MemoryLimit(excess)),
            None => Ok(()),
        }
    }
}
