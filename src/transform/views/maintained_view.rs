//! The one place that decides how a result is kept up to date.
//!
//! A query over changelogs alone is run on the epoch's rows and its result appended. A query over current
//! rows becomes a tree of operators that turn changes into changes ([`super::dataflow`]). What such a tree
//! can't do is computed anew and compared with what it was.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;

use super::keyed_output::{KeyError, KeyedChanges, KeyedOutput};
use super::maintenance::Maintenance;
use super::reads::Reads;
use crate::model::{Found, Lookup, ResultChanges, ResultMode, ResultTable, Window};
use crate::transform::dataflow::{
    Delta, EvalContext, IndexRequests, Multiset, Normalize, Operator, normalize,
};
use crate::transform::error::TransformError;

/// Whether changes go to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emit {
    ToTarget,
    /// The target is taken to show it already, or to show it for ever.
    Nothing,
}

/// The means by which a result is kept.
#[derive(Debug)]
pub(crate) enum ViewState {
    Append,
    Incremental { root: Box<Normalize> },
    Recompute { rows: Box<Multiset> },
}

/// A query as it was planned, and the table that its result is.
#[derive(Debug)]
pub(crate) struct PlannedQuery {
    pub(crate) path: String,
    pub(crate) table: Arc<ResultTable>,
    pub(crate) reads: Reads,
    /// The query as a whole.
    pub(crate) plan: LogicalPlan,
}

/// How the result of a query is kept.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) maintenance: Maintenance,
    pub(crate) state: ViewState,
    /// What its look-ups go by: source tables and some of their columns.
    pub(crate) indexes: Vec<(String, Vec<usize>)>,
}

/// A result, its query, and what keeps it up to date.
#[derive(Debug)]
pub(crate) struct MaintainedView {
    query: PlannedQuery,
    upkeep: Upkeep,
    /// `None` for appended rows.
    output: Option<KeyedOutput>,
    /// How the rows changed in this epoch.
    delta: Delta,
}

impl MaintainedView {
    pub(crate) fn new(query: PlannedQuery, upkeep: Upkeep) -> Result<Self, ArrowError> {
        let schema = &query.table.schema;
        let output = match &query.table.mode {
            ResultMode::Append => None,
            ResultMode::Keyed { key } => {
                Some(KeyedOutput::new(schema, key, upkeep.state.is_unique_by(key))?)
            }
        };
        let delta = Delta::empty(schema);
        Ok(Self { query, upkeep, output, delta })
    }

    /// The source tables and their columns by which it looks rows up.
    pub(crate) fn indexes(&self) -> &[(String, Vec<usize>)] {
        &self.upkeep.indexes
    }

    pub(crate) fn path(&self) -> &str {
        &self.query.path
    }

    pub(crate) fn table(&self) -> &Arc<ResultTable> {
        &self.query.table
    }

    pub(crate) fn maintenance(&self) -> &Maintenance {
        &self.upkeep.maintenance
    }

    /// The names of what the query reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &str> {
        self.query.reads.tables.iter().map(String::as_str)
    }

    /// Whether an update runs the query over all that it reads.
    pub(crate) fn runs_as_a_whole(&self) -> bool {
        self.upkeep.state.runs_as_a_whole()
    }

    /// Whether the query reads this column of one of these tables.
    pub(crate) fn reads_column(&self, tables: &[&str], column: &str) -> bool {
        let columns = tables.iter().filter_map(|table| self.query.reads.columns.get(*table));
        columns.into_iter().any(|columns| columns.contains(column))
    }

    pub(crate) fn delta(&self) -> Option<&Delta> {
        (!self.delta.is_empty()).then_some(&self.delta)
    }

    pub(crate) fn reads_any(&self, tables: &[&str]) -> bool {
        tables.iter().any(|table| self.query.reads.tables.contains(*table))
    }

    /// The windows of the query itself.
    pub(crate) fn windows(&self) -> impl Iterator<Item = Window> + '_ {
        self.query.reads.windows.iter().copied()
    }

    pub(crate) fn is_affected(&self, changed: &HashSet<String>, watermark_moved: bool) -> bool {
        (self.query.reads.watermark && watermark_moved)
            || self.query.reads.tables.iter().any(|table| changed.contains(table))
    }

    /// Forgets the difference of the last epoch.
    pub(crate) fn begin(&mut self) {
        if !self.delta.is_empty() {
            self.delta = Delta::empty(&self.query.table.schema);
        }
    }

    pub(crate) fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        match &mut self.upkeep.state {
            ViewState::Append => false,
            ViewState::Incremental { root } => root.prepare(columns, requests),
            ViewState::Recompute { rows, .. } => rows.add_index(columns).is_ok(),
        }
    }

    pub(crate) fn find(
        &self,
        lookup: Lookup<'_>,
        context: &EvalContext<'_>,
    ) -> DataFusionResult<Found> {
        match &self.upkeep.state {
            ViewState::Append => Err(DataFusionError::Internal(format!(
                "{} is appended and can't be looked into",
                self.query.table.name
            ))),
            ViewState::Incremental { root } => root.find(lookup, context),
            ViewState::Recompute { rows, .. } => Ok(rows.find(lookup)?),
        }
    }

    /// The rows that it has now; of an appended one, those of this epoch.
    pub(crate) fn all(&self, context: &EvalContext<'_>) -> DataFusionResult<RecordBatch> {
        match &self.upkeep.state {
            ViewState::Append => Ok(self.delta.rows.clone()),
            ViewState::Incremental { root } => root.all(context),
            ViewState::Recompute { rows, .. } => Ok(rows.all()?),
        }
    }

    /// Builds what is kept from the rows as they are, and emits nothing.
    pub(crate) async fn load(
        &mut self,
        state: &SessionState,
        context: &EvalContext<'_>,
    ) -> Result<(), TransformError> {
        let loaded = match &mut self.upkeep.state {
            ViewState::Append => Ok(()),
            ViewState::Incremental { root } => root.load(context),
            ViewState::Recompute { rows } => {
                match query(&self.query.plan, &self.query.table, state).await {
                    Ok(batches) => {
                        rows.clear();
                        batches.iter().try_for_each(|b| Ok(rows.apply(&Delta::of(b.clone(), 1))?))
                    }
                    Err(error) => Err(error),
                }
            }
        };
        loaded.map_err(|source| self.failed(source))?;
        if let Some(output) = &mut self.output
            && output.needs_rows()
        {
            output.clear();
            let rows = self.all(context).map_err(|source| self.failed(source))?;
            self.count(&Delta::of(rows, 1))?;
        }
        Ok(())
    }

    /// How the rows differ after an epoch.
    pub(crate) async fn update(
        &mut self,
        state: &SessionState,
        context: &EvalContext<'_>,
        emit: Emit,
    ) -> Result<ResultChanges, TransformError> {
        let delta = match &mut self.upkeep.state {
            ViewState::Incremental { root } => root.advance(context),
            ViewState::Append => {
                query(&self.query.plan, &self.query.table, state).await.and_then(|batches| {
                    Ok(Delta::of(concat_batches(&self.query.table.schema, &batches)?, 1))
                })
            }
            ViewState::Recompute { rows } => query(&self.query.plan, &self.query.table, state)
                .await
                .and_then(|batches| Ok(rows.replace(&batches)?)),
        };
        self.delta = delta.map_err(|source| self.failed(source))?;
        let changes = self.count(&self.delta.clone())?;
        if let (Emit::Nothing, Some(output)) = (emit, &mut self.output) {
            let doubted = output.doubt(&changes);
            doubted.map_err(|error| key_error(&self.query.path, error))?;
        }
        let KeyedChanges { upserts, held, deletes } = changes;
        let table = Arc::clone(&self.query.table);
        Ok(ResultChanges { table, upserts, held, deletes, is_new_definition: false })
    }

    fn count(&mut self, delta: &Delta) -> Result<KeyedChanges, TransformError> {
        let Some(output) = &mut self.output else {
            let (upserts, deletes) = (delta.rows.clone(), no_keys());
            return Ok(KeyedChanges { upserts, held: Vec::new(), deletes });
        };
        output.changes(delta).map_err(|error| key_error(&self.query.path, error))
    }

    /// All rows, for a target that holds rows of another definition.
    pub(crate) fn whole(&self, context: &EvalContext<'_>) -> Result<ResultChanges, TransformError> {
        let table = Arc::clone(&self.query.table);
        // Appended rows stay as they are: there is nothing to compute them from.
        let upserts = match self.output {
            Some(_) => self.all(context).map_err(|source| self.failed(source))?,
            None => RecordBatch::new_empty(Arc::clone(&table.schema)),
        };
        let (held, deletes) = (Vec::new(), no_keys());
        Ok(ResultChanges { table, upserts, held, deletes, is_new_definition: true })
    }

    pub(crate) fn failed(&self, source: DataFusionError) -> TransformError {
        TransformError::Run { path: self.query.path.clone(), source: Box::new(source) }
    }

    /// The query run as a whole over the rows that its tables are showing.
    pub(crate) async fn recompute_all(
        &self,
        state: &SessionState,
    ) -> Result<RecordBatch, TransformError> {
        let batches = query(&self.query.plan, &self.query.table, state)
            .await
            .map_err(|source| self.failed(source))?;
        concat_batches(&self.query.table.schema, &batches)
            .map_err(|source| self.failed(source.into()))
    }

    /// Bytes that it keeps.
    pub(crate) fn memory(&self) -> usize {
        let kept = match &self.upkeep.state {
            ViewState::Append => 0,
            ViewState::Incremental { root } => root.memory(),
            ViewState::Recompute { rows, .. } => rows.memory(),
        };
        kept + self.output.as_ref().map_or(0, KeyedOutput::memory)
    }
}

impl ViewState {
    pub(crate) fn runs_as_a_whole(&self) -> bool {
        matches!(self, Self::Append | Self::Recompute { .. })
    }

    /// Whether the query itself makes sure that no two rows have the same key.
    fn is_unique_by(&self, key: &[usize]) -> bool {
        let Self::Incremental { root } = self else { return false };
        root.unique().is_some_and(|unique| unique.iter().all(|column| key.contains(column)))
    }
}

fn key_error(path: &str, error: KeyError) -> TransformError {
    let path = path.to_owned();
    match error {
        KeyError::Duplicate { key } => TransformError::DuplicateKey { path, key },
        KeyError::Null { column } => TransformError::NullKey { path, column },
        KeyError::Arrow { source } => TransformError::Compare { path, source },
    }
}

fn no_keys() -> RecordBatch {
    RecordBatch::new_empty(Arc::new(Schema::empty()))
}

/// Runs a query as a whole.
async fn query(
    plan: &LogicalPlan,
    table: &ResultTable,
    state: &SessionState,
) -> DataFusionResult<Vec<RecordBatch>> {
    // Planned each time, so that the plan knows the sizes of this epoch's tables.
    let physical = state.query_planner().create_physical_plan(plan, state).await?;
    let batches = collect(physical, state.task_ctx()).await?;
    let filled = batches.into_iter().filter(|batch| batch.num_rows() > 0);
    filled.map(|batch| normalize(&batch, &table.schema)).collect()
}
