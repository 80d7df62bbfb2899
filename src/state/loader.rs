//! The state while it is loaded: tables are opened, rows come from disk or landing tables, and at the end the clock is
//! set by all of them.

use super::error::StateError;
use super::store::{LastChange, TableStore};
use super::stores::StateStores;
use super::time::Ticks;
use crate::model::{Changelog, CommittedEpoch, TableDelta, Upkeep, Window};

/// State stores that are being loaded. They have all their indexes.
#[derive(Debug)]
pub struct StateLoader {
    stores: StateStores,
    times: Ticks,
    /// By table. They count when all rows are there: their deletes are folded as changes of their own.
    truncates: Vec<(String, LastChange)>,
}

impl StateLoader {
    pub fn new(stores: StateStores) -> Self {
        Self { stores, times: Ticks::default(), truncates: Vec::new() }
    }

    /// Goes on from the rows of a table on disk, if these are of use; otherwise all rows are to be loaded. The columns in `read` are
    /// kept, and those that the store itself needs. `windows` are those over the rows.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn open(
        &mut self,
        table: &str,
        read: &[usize],
        windows: Vec<Window>,
    ) -> Result<bool, StateError> {
        self.stores.keep_columns(table, read);
        self.stores.note_windows(table, windows);
        self.stores.attach(table)
    }

    /// The stores as far as they are loaded.
    pub fn stores(&self) -> &StateStores {
        &self.stores
    }

    pub fn stores_mut(&mut self) -> &mut StateStores {
        &mut self.stores
    }

    /// After which epoch the state on disk is. `None`: nothing that can be used.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn find_kept(&mut self, pipeline: &str) -> Result<Option<CommittedEpoch>, StateError> {
        self.stores.find_kept(pipeline)
    }

    /// What is on disk is of the epochs of the ledger.
    pub fn accept_kept(&mut self) {
        self.stores.accept_kept();
    }

    /// What is on disk is of no use: it is of other epochs than the ledger.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub fn reject_kept(&mut self) -> Result<(), StateError> {
        self.stores.reject_kept()
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
        for (table, truncate) in self.truncates {
            self.stores.note_truncate(&table, truncate);
        }
        self.stores.advance_to(self.times);
        self.stores.warm()?;
        if let Some(watermark) = watermark {
            self.stores.resume_watermark(watermark);
        }
        self.stores.set_start_time();
        Ok(self.stores)
    }

    /// Takes newest rows of keys, or changes; how the rows of their table differ from before.
    ///
    /// # Errors
    /// If Arrow can't process the batch, or the rows take more memory than they may.
    pub fn load(&mut self, rows: Changelog) -> Result<TableDelta, StateError> {
        let Self { stores, times, truncates } = self;
        stores.note_times(times, &rows);
        let truncate = TableStore::landed_truncate(&rows);
        truncates.extend(truncate.map(|truncate| (rows.table.name.clone(), truncate)));
        let table = rows.table.name.clone();
        let delta = stores.fold(rows)?.delta;
        stores.spill(&table)?;
        if stores.excess(std::iter::empty()).is_none() {
            return Ok(delta);
        }
        stores.evict_now(Upkeep::default())?;
        match stores.lasting_excess(std::iter::empty()) {
            Some(excess) => Err(StateError::MemoryLimit(excess)),
            None => Ok(delta),
        }
    }
}
