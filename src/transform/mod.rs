//! SQL files to maintained results.
//!
//! [`parse_tables`] reads `sql/tables`, [`Transforms::plan`] reads `sql/transforms` against them, and
//! [`Transforms::run`] turns the new rows of the state stores into changes of each result. How a
//! result is kept up to date is decided in one place, `maintain`; nothing else knows.
//!
//! It knows SQL and Arrow. It does not know where rows come from or where results go.

mod diff;
mod functions;
mod header;
mod live_table;
mod location;
mod maintain;
mod options;
mod plan;
mod sql_file;
mod tables;

pub use maintain::Maintenance;
pub use sql_file::{SqlError, SqlFile, read_folder};
pub use tables::parse_tables;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;

use crate::changelog::{Changelog, ResultChanges, ResultTable, Table};
use crate::recovery::Recovery;
use functions::WatermarkCell;
use live_table::LiveTables;
use maintain::Maintained;

/// Errors of running a transform.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    #[error("{path} failed to run; no row of this epoch was committed")]
    Run {
        path: String,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("{path}: two rows have the key ({key}): correct the `-- key:` line or the SELECT")]
    DuplicateKey { path: String, key: String },
    #[error("{path}: the key column {column} is NULL in a row: a key must always have a value")]
    NullKey { path: String, column: String },
    #[error("{path}: the rows of the result can't be compared")]
    Compare {
        path: String,
        #[source]
        source: arrow::error::ArrowError,
    },
}

impl TransformError {
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Run { .. }
            | Self::DuplicateKey { .. }
            | Self::NullKey { .. }
            | Self::Compare { .. } => Recovery::Stop,
        }
    }
}

/// The current rows of a source table, given when they have changed.
#[derive(Debug)]
pub struct TableRows {
    pub name: String,
    pub rows: Vec<RecordBatch>,
}

/// All transforms of a folder, in the order of what they read.
pub struct Transforms {
    state: SessionState,
    tables: LiveTables,
    watermark: WatermarkCell,
    maintained: Vec<Maintained>,
}

impl Transforms {
    /// Plans the files of `sql/transforms` against the declared tables.
    ///
    /// # Errors
    /// Everything that is wrong in any file, with file, line and column.
    pub async fn plan(tables: &[Arc<Table>], files: &[SqlFile]) -> Result<Self, Vec<SqlError>> {
        plan::plan(tables, files).await
    }

    /// How each file is maintained, in the order in which they run.
    pub fn explain(&self) -> impl Iterator<Item = (&Arc<ResultTable>, &Maintenance)> {
        self.maintained.iter().map(|m| (m.table(), m.maintenance()))
    }

    /// The results that are maintained, in the order in which they run.
    pub fn results(&self) -> impl Iterator<Item = &Arc<ResultTable>> {
        self.maintained.iter().map(Maintained::table)
    }

    /// How long the longest window over the rows of a source table, or over what any transform makes of
    /// them, is.
    pub fn window_span(&self, table: &str) -> Option<Duration> {
        let mut derived = HashSet::from([table]);
        let mut longest = None;
        for maintained in &self.maintained {
            if maintained.reads_any(&derived) {
                derived.insert(&maintained.table().name);
                longest = longest.max(maintained.window());
            }
        }
        longest
    }

    /// The whole of every result whose rows in the target are of another definition, or not there at
    /// all; to be written after [`Self::rebase`] over all rows.
    ///
    /// # Errors
    /// If the rows can't be put together.
    pub fn redefined(
        &self,
        written: &BTreeMap<String, String>,
    ) -> Result<Vec<ResultChanges>, TransformError> {
        let is_other =
            |m: &&Maintained| written.get(&m.table().name) != Some(&m.table().definition);
        self.maintained.iter().filter(is_other).map(Maintained::whole).collect()
    }

    /// Brings every result up to date and tells how each has changed.
    ///
    /// `tables` are the source tables whose rows differ from the last call; `changes` are the
    /// epoch's changelogs. A result that reads nothing of these is not looked at.
    ///
    /// # Errors
    /// If a query fails, or its rows don't have the key that the file promises.
    pub async fn run(
        &mut self,
        tables: Vec<TableRows>,
        changes: &[Changelog],
        watermark: Option<i64>,
    ) -> Result<Vec<ResultChanges>, TransformError> {
        let has_moved = self.watermark.set(watermark);
        let mut changed = self.tables.update(tables, changes);
        let mut results = Vec::new();
        for maintained in &mut self.maintained {
            if !maintained.is_affected(&changed, has_moved) {
                continue;
            }
            let update = maintained.update(&self.state).await?;
            if !update.is_empty() {
                let name = &maintained.table().name;
                changed.insert(name.clone());
                match maintained.maintenance() {
                    Maintenance::Append => self.tables.set_changes(name, maintained.rows()),
                    Maintenance::Recompute { .. } => self.tables.set(name, maintained.rows()),
                }
                results.push(update);
            }
        }
        Ok(results)
    }

    /// Takes the rows as they are for what the targets show: after a restart, and after ttl has
    /// dropped rows, which takes nothing out of a target.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn rebase(
        &mut self,
        tables: Vec<TableRows>,
        watermark: Option<i64>,
    ) -> Result<(), TransformError> {
        self.run(tables, &[], watermark).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
