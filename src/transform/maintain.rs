//! The one place that decides how a result is kept up to date.
//!
//! A query over changelogs alone is run on the epoch's rows and its result appended. Every other
//! query is run over the current rows, and the difference to its last result is the change.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;

use super::TransformError;
use super::diff::{DiffError, LastRows};
use super::plan::Reads;
use super::sql_file::{SqlError, SqlFile};
use crate::changelog::{ResultChanges, ResultMode, ResultTable};

/// How a result is maintained, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maintenance {
    /// It reads changes only.
    Append,
    /// It reads current rows: computed anew when one of these has changed, and compared.
    Recompute { reads: Vec<String> },
}

impl fmt::Display for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append => write!(f, "append: reads changes only"),
            Self::Recompute { reads } => {
                write!(f, "recompute and compare: reads the current rows of {}", reads.join(", "))
            }
        }
    }
}

/// A result, its query, and what the query gave last.
pub(super) struct Maintained {
    path: String,
    table: Arc<ResultTable>,
    plan: LogicalPlan,
    reads: Reads,
    maintenance: Maintenance,
    last: Option<LastRows>,
    rows: Vec<RecordBatch>,
    has_run: bool,
}

impl Maintained {
    /// `changes` are the names of what holds the rows of one epoch alone.
    pub(super) fn new(
        file: &SqlFile,
        table: Arc<ResultTable>,
        plan: LogicalPlan,
        reads: Reads,
        changes: &HashSet<String>,
    ) -> Result<Self, SqlError> {
        let (from_changes, current): (Vec<_>, Vec<_>) =
            reads.tables.iter().cloned().partition(|name| changes.contains(name));
        let (maintenance, last) = match (&table.mode, from_changes.is_empty()) {
            (ResultMode::Append, false) if current.is_empty() => (Maintenance::Append, None),
            (_, false) if current.is_empty() => {
                return Err(file.error(
                    None,
                    "reads changes only, which are appended: drop the `-- key:` line",
                ));
            }
            (_, false) => {
                let message = format!(
                    "reads both {} and {}: the result would depend on how events fall into batches; \
                     read either changes or current tables",
                    from_changes.join(", "),
                    current.join(", ")
                );
                return Err(file.error(None, message));
            }
            (ResultMode::Append, true) => {
                return Err(file
                    .error(None, "reads current rows, so it needs a `-- key: COLUMN, ...` line"));
            }
            (ResultMode::Keyed { key }, true) => {
                let last = LastRows::new(&table.schema, key).map_err(|error| {
                    file.error(None, format!("its key can't be compared: {error}"))
                })?;
                (Maintenance::Recompute { reads: current }, Some(last))
            }
        };
        let path = file.path.display().to_string();
        let (rows, has_run) = (Vec::new(), false);
        Ok(Self { path, table, plan, reads, maintenance, last, rows, has_run })
    }

    pub(super) fn table(&self) -> &Arc<ResultTable> {
        &self.table
    }

    pub(super) fn maintenance(&self) -> &Maintenance {
        &self.maintenance
    }

    /// The rows of the last update: of a maintained result all, of an appended one the new ones.
    pub(super) fn rows(&self) -> Vec<RecordBatch> {
        self.rows.clone()
    }

    pub(super) fn reads_any(&self, tables: &HashSet<&str>) -> bool {
        self.reads.tables.iter().any(|table| tables.contains(table.as_str()))
    }

    /// The longest window of the query itself.
    pub(super) fn window(&self) -> Option<Duration> {
        self.reads.window.map(|micros| Duration::from_micros(micros.unsigned_abs()))
    }

    /// The first time always: a query may have rows without reading any.
    pub(super) fn is_affected(&self, changed: &HashSet<String>, watermark_moved: bool) -> bool {
        !self.has_run
            || (self.reads.watermark && watermark_moved)
            || self.reads.tables.iter().any(|table| changed.contains(table))
    }

    pub(super) async fn update(
        &mut self,
        state: &SessionState,
    ) -> Result<ResultChanges, TransformError> {
        let rows = self.query(state).await.map_err(|source| TransformError::Run {
            path: self.path.clone(),
            source: Box::new(source),
        })?;
        let table = Arc::clone(&self.table);
        let compare =
            |source: ArrowError| TransformError::Compare { path: self.path.clone(), source };
        let changes = match &mut self.last {
            None => {
                let upserts = concat_batches(&table.schema, &rows).map_err(compare)?;
                let deletes = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
                ResultChanges { table, upserts, deletes, is_new_definition: false }
            }
            Some(last) => {
                let (upserts, deletes) = last.replace(&rows).map_err(|error| match error {
                    DiffError::DuplicateKey { key } => {
                        TransformError::DuplicateKey { path: self.path.clone(), key }
                    }
                    DiffError::NullKey { column } => {
                        TransformError::NullKey { path: self.path.clone(), column }
                    }
                    DiffError::Arrow { source } => compare(source),
                })?;
                ResultChanges { table, upserts, deletes, is_new_definition: false }
            }
        };
        self.rows = rows;
        self.has_run = true;
        Ok(changes)
    }

    /// All rows, for a target that holds rows of another definition.
    pub(super) fn whole(&self) -> Result<ResultChanges, TransformError> {
        let table = Arc::clone(&self.table);
        // Appended rows stay as they are: there is nothing to compute them from.
        let rows = if self.last.is_some() { self.rows.as_slice() } else { &[] };
        let compare = |source| TransformError::Compare { path: self.path.clone(), source };
        let upserts = concat_batches(&table.schema, rows).map_err(compare)?;
        let deletes = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
        Ok(ResultChanges { table, upserts, deletes, is_new_definition: true })
    }

    async fn query(&self, state: &SessionState) -> Result<Vec<RecordBatch>, DataFusionError> {
        // Planned anew each time, so that the plan knows the sizes of this epoch's tables.
        let physical = state.query_planner().create_physical_plan(&self.plan, state).await?;
        let batches = collect(physical, state.task_ctx()).await?;
        batches.into_iter().filter(|b| b.num_rows() > 0).map(|b| self.normalize(&b)).collect()
    }

    fn normalize(&self, batch: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let schema = &self.table.schema;
        let columns = batch.columns().iter().zip(schema.fields());
        // A value that does not fit is an error, not NULL.
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let columns =
            columns.map(|(column, field)| cast_with_options(column, field.data_type(), &options));
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}
