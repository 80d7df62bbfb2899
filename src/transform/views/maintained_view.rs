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

use super::key_proof::KeyProof;
use super::key_rule::{KeyRule, Keys, Ruled, Seen};
use super::keyed_output::{KeyedChanges, KeyedOutput};
use super::left_out::LeftOut;
use super::maintenance::Maintenance;
use super::reads::Reads;
use crate::model::{
    Channel, Found, Lookup, PriorRow, ResultChanges, ResultMode, ResultTable, Window,
};
use crate::transform::dataflow::{
    Delta, EpochStep, EvalContext, IndexRequests, Multiset, Normalize, Operator, OperatorState,
    Visit, each_state, normalize,
};
use crate::transform::error::TransformError;

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
    /// What the plan proves of the key; of appended rows nothing.
    pub(crate) proof: KeyProof,
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
    keyed: Option<Keyed>,
    /// How the rows changed in this epoch.
    delta: Delta,
    /// Rows that the epoch left out.
    left_out: LeftOut,
}

/// What makes a keyed result of the rows of a query.
#[derive(Debug)]
struct Keyed {
    rule: KeyRule,
    output: KeyedOutput,
}

impl MaintainedView {
    pub(crate) fn new(query: PlannedQuery, upkeep: Upkeep) -> Result<Self, ArrowError> {
        let schema = &query.table.schema;
        let keyed = match &query.table.mode {
            ResultMode::Append => None,
            ResultMode::Keyed { key } => {
                let keys = if query.proof.is_unique { Keys::ProvenUnique } else { Keys::Unproven };
                let rule = KeyRule::new(schema, key, keys)?;
                Some(Keyed { rule, output: KeyedOutput::new(schema, key)? })
            }
        };
        let (delta, left_out) = (Delta::empty(schema), LeftOut::default());
        Ok(Self { query, upkeep, keyed, delta, left_out })
    }

    #[cfg(test)]
    pub(crate) fn plan(&self) -> &LogicalPlan {
        &self.query.plan
    }

    /// What the plan proves of the key.
    pub(crate) fn proof(&self) -> &KeyProof {
        &self.query.proof
    }

    /// The rows that this epoch has left out.
    pub(crate) fn left_out(&self) -> &LeftOut {
        &self.left_out
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

    pub(crate) fn reads_watermark(&self) -> bool {
        self.query.reads.watermark
    }

    /// Forgets the difference of the last epoch.
    pub(crate) fn begin(&mut self) {
        if !self.delta.is_empty() {
            self.delta = Delta::empty(&self.query.table.schema);
        }
        if !self.left_out.is_empty() {
            self.left_out = LeftOut::default();
        }
    }

    pub(crate) fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        match &mut self.upkeep.state {
            ViewState::Append => false,
            ViewState::Incremental { root } => root.prepare(columns, requests),
            ViewState::Recompute { rows, .. } => rows.add_index(columns).is_ok(),
        }
    }

    /// The rows of the result that a look-up finds.
    pub(crate) fn find(
        &self,
        lookup: Lookup<'_>,
        context: &EvalContext<'_>,
    ) -> DataFusionResult<Found> {
        let found = self.find_of_query(lookup, context)?;
        match &self.keyed {
            Some(keyed) => Ok(keyed.rule.found(found)?),
            None => Ok(found),
        }
    }

    fn find_of_query(
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

    /// Shows `visit` the rows that it has now, part by part; of an appended one, those of this epoch.
    pub(crate) fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> DataFusionResult<()> {
        let Some(keyed) = &self.keyed else { return self.scan_query(context, visit) };
        let mut seen = Seen::default();
        self.scan_query(context, &mut |rows| visit(keyed.rule.shown(rows, &mut seen)?))
    }

    fn scan_query(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> DataFusionResult<()> {
        match &self.upkeep.state {
            ViewState::Append => visit(self.delta.rows.clone()),
            ViewState::Incremental { root } => root.scan(context, visit),
            ViewState::Recompute { rows, .. } => rows.scan(visit),
        }
    }

    /// The same at once.
    pub(crate) fn all(&self, context: &EvalContext<'_>) -> DataFusionResult<Vec<RecordBatch>> {
        let mut parts = Vec::new();
        self.scan(context, &mut |part| {
            parts.push(part);
            Ok(())
        })?;
        Ok(parts)
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
        self.load_keys(context).map_err(|source| self.failed(source))
    }

    /// Shows all rows to the rule of keys, if it goes by them.
    fn load_keys(&mut self, context: &EvalContext<'_>) -> DataFusionResult<()> {
        // Taken out, because the scan reads the view.
        let Some(mut keyed) = self.keyed.take() else { return Ok(()) };
        keyed.rule.clear();
        let loaded = if keyed.rule.needs_rows() {
            self.scan_query(context, &mut |part| {
                keyed.rule.apply(&Delta::of(part, 1))?;
                Ok(())
            })
        } else {
            Ok(())
        };
        self.keyed = Some(keyed);
        loaded
    }

    /// How the rows differ after an epoch.
    pub(crate) async fn update(
        &mut self,
        state: &SessionState,
        context: &EvalContext<'_>,
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
        let changes = delta.and_then(|delta| Ok(self.ruled(delta)?));
        let KeyedChanges { upserts, held, deletes } =
            changes.map_err(|source| self.failed(source))?;
        let table = Arc::clone(&self.query.table);
        Ok(ResultChanges { table, upserts, held, deletes, is_new_definition: false })
    }

    /// Takes the difference of the query for what it is to the result.
    fn ruled(&mut self, delta: Delta) -> Result<KeyedChanges, ArrowError> {
        let Some(Keyed { rule, output }) = &mut self.keyed else {
            self.delta = delta;
            let (upserts, deletes) = (self.delta.rows.clone(), no_keys());
            return Ok(KeyedChanges { upserts, held: Vec::new(), deletes });
        };
        let Ruled { delta, left_out } = rule.apply(&delta)?;
        self.delta = delta;
        self.left_out = left_out;
        output.changes(&self.delta)
    }

    /// All rows, for a target that holds rows of another definition: the first part takes these away, the others add to
    /// it. Nothing is posted for a new definition, so that of such a result there is one part.
    pub(crate) fn whole(
        &self,
        context: &EvalContext<'_>,
    ) -> Result<Vec<ResultChanges>, TransformError> {
        let table = &self.query.table;
        let part = |upserts: RecordBatch, held: Vec<PriorRow>, is_new_definition| ResultChanges {
            table: Arc::clone(table),
            upserts,
            held,
            deletes: no_keys(),
            is_new_definition,
        };
        // Appended rows stay as they are: there is nothing to compute them from.
        let is_written = self.keyed.is_some() && table.channel == Channel::Table;
        if !is_written {
            let nothing = RecordBatch::new_empty(Arc::clone(&table.schema));
            return Ok(vec![part(nothing, Vec::new(), true)]);
        }
        let mut rows = self.all(context).map_err(|source| self.failed(source))?.into_iter();
        let first = rows.next();
        let first = first.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&table.schema)));
        let added = |rows: RecordBatch| {
            let held = vec![PriorRow::Nothing; rows.num_rows()];
            part(rows, held, false)
        };
        let others = rows.filter(|rows| rows.num_rows() > 0).map(added);
        Ok(std::iter::once(part(first, Vec::new(), true)).chain(others).collect())
    }

    /// All rows that are left out.
    pub(crate) fn all_left_out(
        &self,
        context: &EvalContext<'_>,
    ) -> Result<LeftOut, TransformError> {
        let Some(keyed) = &self.keyed else { return Ok(LeftOut::default()) };
        let is_proven = self.query.proof.is_unique && self.query.proof.nullable.is_empty();
        if is_proven {
            return Ok(LeftOut::default());
        }
        let (mut left_out, mut seen) = (LeftOut::default(), Seen::default());
        let scanned = self.scan_query(context, &mut |rows| {
            Ok(keyed.rule.add_left_out(&rows, &mut seen, &mut left_out)?)
        });
        scanned.map_err(|source| self.failed(source))?;
        Ok(left_out)
    }

    /// Makes an error of this view, without holding it.
    pub(crate) fn failure(&self) -> impl FnOnce(DataFusionError) -> TransformError + use<> {
        let (result, path) = (self.query.table.name.clone(), self.query.path.clone());
        |source| TransformError { result, path, source: Box::new(source) }
    }

    pub(crate) fn failed(&self, source: DataFusionError) -> TransformError {
        self.failure()(source)
    }

    /// The rows of the result by the query run as a whole over the rows that its tables are showing.
    pub(crate) async fn recompute_all(
        &self,
        state: &SessionState,
    ) -> Result<RecordBatch, TransformError> {
        let batches = query(&self.query.plan, &self.query.table, state)
            .await
            .map_err(|source| self.failed(source))?;
        let ruled = |rows: RecordBatch| match &self.query.table.mode {
            ResultMode::Append => Ok(rows),
            ResultMode::Keyed { key } => {
                let mut rule = KeyRule::new(&self.query.table.schema, key, Keys::Unproven)?;
                Ok(rule.apply(&Delta::of(rows, 1))?.delta.rows)
            }
        };
        let rows = concat_batches(&self.query.table.schema, &batches).and_then(ruled);
        rows.map_err(|source| self.failed(source.into()))
    }

    /// Takes all that it keeps through a step of an epoch.
    pub(crate) fn step(&mut self, step: EpochStep) -> Result<(), TransformError> {
        let stepped = match &mut self.upkeep.state {
            ViewState::Recompute { rows } => rows.step(step),
            ViewState::Append | ViewState::Incremental { .. } => Ok(()),
        };
        stepped.map_err(|source| self.failed(source))?;
        self.each_state(&mut |state| state.step(step))
    }

    /// Shows `visit` what it keeps from differences: the states of its operators, and of its rule of keys.
    pub(crate) fn each_state(
        &mut self,
        visit: &mut dyn FnMut(&mut dyn OperatorState) -> DataFusionResult<()>,
    ) -> Result<(), TransformError> {
        let visited = match &mut self.upkeep.state {
            ViewState::Incremental { root } => each_state(&mut **root, visit),
            ViewState::Append | ViewState::Recompute { .. } => Ok(()),
        };
        let rule = self.keyed.as_mut().and_then(|keyed| keyed.rule.state());
        let ruled = rule.map_or(Ok(()), visit);
        visited.and(ruled).map_err(|source| self.failed(source))
    }

    /// Whether all that it keeps comes from differences, and so can be kept beyond the process.
    pub(crate) fn is_incremental(&self) -> bool {
        matches!(self.upkeep.state, ViewState::Incremental { .. })
    }

    /// What its operators compute.
    pub(crate) fn computation(&self) -> String {
        let ResultTable { schema, mode, .. } = &*self.query.table;
        format!("{} {schema:?} {mode:?}", self.query.plan.display_indent_schema())
    }

    /// Brings what it keeps up to date, as [`Self::update`] does. Its target has the difference already.
    pub(crate) fn follow(&mut self, context: &EvalContext<'_>) -> Result<(), TransformError> {
        let ViewState::Incremental { root } = &mut self.upkeep.state else { return Ok(()) };
        let delta = root.advance(context);
        let followed = delta.and_then(|delta| Ok(self.ruled(delta)?));
        followed.map(drop).map_err(|source| self.failed(source))
    }

    /// Bytes that it keeps.
    pub(crate) fn memory(&self) -> usize {
        let kept = match &self.upkeep.state {
            ViewState::Append => 0,
            ViewState::Incremental { root } => root.memory(),
            ViewState::Recompute { rows, .. } => rows.memory(),
        };
        kept + self.keyed.as_ref().map_or(0, |keyed| keyed.rule.memory())
    }
}

impl ViewState {
    pub(crate) fn runs_as_a_whole(&self) -> bool {
        matches!(self, Self::Append | Self::Recompute { .. })
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
