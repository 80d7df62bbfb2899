//! The transforms at work: loaded from rows as they are, then brought up to date epoch by epoch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;

use super::dataflow::{Delta, EvalContext, Results, WatermarkStep};
use super::error::TransformError;
use super::live_table::LiveTables;
use super::transforms::Transforms;
use super::views::{Emit, MaintainedView};
use crate::model::{Changelog, CurrentRows, Found, Lookup, ResultChanges, ResultTable, TableDelta};

/// What an epoch brings.
struct EpochInput<'a> {
    deltas: Vec<TableDelta>,
    changes: &'a [Changelog],
    watermark: Option<i64>,
}

impl Transforms {
    /// Takes the rows as they are for what the targets show.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn load(
        &mut self,
        tables: &dyn CurrentRows,
        watermark: Option<i64>,
    ) -> Result<(), TransformError> {
        self.watermark = watermark;
        self.watermark_cell.set(watermark);
        let deltas = HashMap::new();
        for at in 0..self.views.len() {
            let (earlier, rest) = self.views.split_at_mut(at);
            let results = EarlierViews(earlier);
            let watermark = WatermarkStep { before: watermark, now: watermark };
            let context = EvalContext { tables, deltas: &deltas, results: &results, watermark };
            let view = &mut rest[0];
            view.begin();
            show(&self.live, view, &context)?;
            view.load(&self.state, &context).await?;
        }
        self.live.clear();
        Ok(())
    }

    /// The whole of every result whose rows in the target are of another definition, or not there at
    /// all; after [`Self::load`] of the same rows.
    ///
    /// # Errors
    /// If the rows can't be put together.
    pub fn redefined(
        &self,
        written: &BTreeMap<String, String>,
        tables: &dyn CurrentRows,
    ) -> Result<Vec<ResultChanges>, TransformError> {
        let deltas = HashMap::new();
        let results = EarlierViews(&self.views);
        let watermark = WatermarkStep { before: self.watermark, now: self.watermark };
        let context = EvalContext { tables, deltas: &deltas, results: &results, watermark };
        let is_other =
            |v: &&MaintainedView| written.get(&v.table().name) != Some(&v.table().definition);
        self.views.iter().filter(is_other).map(|view| view.whole(&context)).collect()
    }

    /// The rows that a keyed result has now; `None` if there is no such result.
    ///
    /// # Errors
    /// If the rows can't be put together.
    pub fn rows_now(
        &self,
        result: &str,
        tables: &dyn CurrentRows,
    ) -> Result<Option<RecordBatch>, TransformError> {
        let deltas = HashMap::new();
        let results = EarlierViews(&self.views);
        let watermark = WatermarkStep { before: self.watermark, now: self.watermark };
        let context = EvalContext { tables, deltas: &deltas, results: &results, watermark };
        let view = self.views.iter().find(|view| view.table().name == result);
        view.map(|view| Ok(view.whole(&context)?.upserts)).transpose()
    }

    /// Brings every result up to date and tells how each has changed.
    ///
    /// `tables` are the source tables as they are now, `deltas` how they differ from the last call, and
    /// `changes` the epoch's changelogs. A result that reads nothing of what changed is not looked at.
    ///
    /// # Errors
    /// If a query fails, or its rows don't have the key that the file promises. The results are not to
    /// be used further, unless they are loaded again.
    pub async fn run(
        &mut self,
        tables: &dyn CurrentRows,
        deltas: Vec<TableDelta>,
        changes: &[Changelog],
        watermark: Option<i64>,
    ) -> Result<Vec<ResultChanges>, TransformError> {
        self.advance(tables, EpochInput { deltas, changes, watermark }, Emit::ToTarget).await
    }

    /// Takes a difference in that no target hears of.
    async fn advance_silently(
        &mut self,
        tables: &dyn CurrentRows,
        deltas: Vec<TableDelta>,
    ) -> Result<(), TransformError> {
        let input = EpochInput { deltas, changes: &[], watermark: self.watermark };
        self.advance(tables, input, Emit::Nothing).await.map(drop)
    }

    async fn advance(
        &mut self,
        tables: &dyn CurrentRows,
        EpochInput { deltas, changes, watermark }: EpochInput<'_>,
        emit: Emit,
    ) -> Result<Vec<ResultChanges>, TransformError> {
        let before = std::mem::replace(&mut self.watermark, watermark);
        let has_moved = self.watermark_cell.set(watermark);
        let deltas: HashMap<String, TableDelta> = deltas
            .into_iter()
            .filter(|delta| !delta.is_empty())
            .map(|delta| (delta.table.clone(), delta))
            .collect();
        let mut changed: HashSet<String> = deltas.keys().cloned().collect();
        changed.extend(self.live.show_changes(changes));
        let mut results = Vec::new();
        for at in 0..self.views.len() {
            let (earlier, rest) = self.views.split_at_mut(at);
            let view = &mut rest[0];
            view.begin();
            if !view.is_affected(&changed, has_moved) {
                continue;
            }
            let earlier = EarlierViews(earlier);
            let watermark = WatermarkStep { before, now: watermark };
            let context = EvalContext { tables, deltas: &deltas, results: &earlier, watermark };
            show(&self.live, view, &context)?;
            let update = view.update(&self.state, &context, emit).await?;
            if view.delta().is_some() {
                changed.insert(view.table().name.clone());
            }
            if !update.is_empty() {
                results.push(update);
            }
        }
        self.live.clear();
        Ok(results)
    }

    /// Every result, recomputed by DataFusion alone, whatever is kept: the referee.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn recomputed(
        &self,
        tables: &dyn CurrentRows,
        watermark: Option<i64>,
    ) -> Result<Vec<(Arc<ResultTable>, RecordBatch)>, TransformError> {
        let mut results: Vec<(Arc<ResultTable>, RecordBatch)> = Vec::new();
        let kept = self.watermark;
        self.watermark_cell.set(watermark);
        for view in &self.views {
            for name in view.reads().filter(|name| self.live.is_source(name)) {
                let rows = tables.all(name).map_err(|error| view.failed(error.into()))?;
                self.live.set(name, rows);
            }
            let rows = view.recompute_all(&self.state).await?;
            self.live.set(&view.table().name, vec![rows.clone()]);
            results.push((Arc::clone(view.table()), rows));
        }
        self.live.clear();
        self.watermark_cell.set(kept);
        Ok(results)
    }

    /// Takes rows in that ttl had dropped, which the targets show already.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn remember(
        &mut self,
        tables: &dyn CurrentRows,
        put_back: Vec<TableDelta>,
    ) -> Result<(), TransformError> {
        self.advance_silently(tables, put_back).await
    }

    /// Takes rows out that ttl has dropped, which takes nothing out of a target.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn forget(
        &mut self,
        tables: &dyn CurrentRows,
        dropped: Vec<TableDelta>,
    ) -> Result<(), TransformError> {
        self.advance_silently(tables, dropped).await
    }
}

/// Shows a query that is run as a whole the rows that it reads.
fn show(
    live: &LiveTables,
    view: &MaintainedView,
    context: &EvalContext<'_>,
) -> Result<(), TransformError> {
    if !view.runs_as_a_whole() {
        return Ok(());
    }
    // A recursive query also reads a table of its own.
    let shown = view.reads().filter(|name| live.holds(name) && !live.is_changelog(name));
    for name in shown {
        let rows = if live.is_source(name) {
            context.tables.all(name).map_err(DataFusionError::from)
        } else {
            context.results.all(name, context).map(|rows| vec![rows])
        };
        live.set(name, rows.map_err(|source| view.failed(source))?);
    }
    Ok(())
}

/// The views that ran before the one that runs.
#[derive(Debug)]
struct EarlierViews<'a>(&'a [MaintainedView]);

impl EarlierViews<'_> {
    fn get(&self, name: &str) -> Result<&MaintainedView, DataFusionError> {
        let missing = || DataFusionError::Internal(format!("{name} has not run yet"));
        self.0.iter().find(|v| v.table().name == name).ok_or_else(missing)
    }

    /// The context as `name` sees it.
    fn before(&self, name: &str) -> EarlierViews<'_> {
        let at = self.0.iter().position(|v| v.table().name == name).unwrap_or(0);
        EarlierViews(&self.0[..at])
    }
}

impl Results for EarlierViews<'_> {
    fn delta(&self, name: &str) -> Option<&Delta> {
        self.get(name).ok().and_then(MaintainedView::delta)
    }

    fn find(
        &self,
        name: &str,
        lookup: Lookup<'_>,
        context: &EvalContext<'_>,
    ) -> Result<Found, DataFusionError> {
        let results = self.before(name);
        self.get(name)?.find(lookup, &EvalContext { results: &results, ..*context })
    }

    fn all(&self, name: &str, context: &EvalContext<'_>) -> Result<RecordBatch, DataFusionError> {
        let results = self.before(name);
        self.get(name)?.all(&EvalContext { results: &results, ..*context })
    }
}
