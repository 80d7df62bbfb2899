//! The state while it is loaded from landing tables: a table is opened, its rows come, and at the end the clock
//! is set by all of them.

use super::error::StateError;
use super::stores::StateStores;
use super::time::Ticks;
use crate::model::{Changelog, Window};

/// State stores that are being loaded. They have all their indexes.
#[derive(Debug)]
pub struct StateLoader {
    stores: StateStores,
    times: Ticks,
}

/// A table whose rows are loaded.
#[derive(Debug)]
pub struct TableLoader<'a>(&'a mut StateLoader);

impl StateLoader {
    pub fn new(stores: StateStores) -> Self {
        Self { stores, times: Ticks::default() }
    }

    /// Of its rows the columns in `read` are kept, and those that the store itself needs. `windows` are those over them.
    pub fn open(&mut self, table: &str, read: &[usize], windows: Vec<Window>) -> TableLoader<'_> {
        self.stores.keep_columns(table, read);
        self.stores.note_windows(table, windows);
        TableLoader(self)
    }

    /// Rows of the table are needed by no result.
    pub fn note_unread(&mut self, table: &str) {
        self.stores.note_unread(table);
    }

    /// The stores, with the clock as the loaded rows tell it and the watermark of the ledger, unless it is set.
    pub fn finish(mut self, watermark: Option<i64>) -> StateStores {
        self.stores.advance_to(self.times);
        if let Some(watermark) = watermark {
            self.stores.resume_watermark(watermark);
        }
        self.stores.set_start_time();
        self.stores
    }
}

impl TableLoader<'_> {
    /// Takes newest rows of keys.
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
        match stores.excess(std::iter::empty()) {
            Some(excess) => Err(StateError::MemoryLimit(excess)),
            None => Ok(()),
        }
    }
}
