//! The transforms at work: loaded from rows as they are, then brought up to date epoch by epoch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use futures::FutureExt;

use super::dataflow::{Delta, EvalContext, Results, Visit, WatermarkStep};
use super::error::TransformError;
use super::live_table::LiveTables;
use super::transforms::Transforms;
use super::views::{LeftOut, MaintainedView};
use crate::model::{
    Changelog, CurrentRows, Found, LeftOutReason, LeftOutRows, Lookup, ResultChanges, ResultTable,
    TableDelta,
};
use crate::resilience::chain;

impl Transforms {
    /// The one that results go by.
    pub fn watermark(&self) -> Option<i64> {
        self.watermark
    }

    pub(super) fn set_watermark(&mut self, watermark: Option<i64>) {
        self.watermark = watermark;
        self.watermark_cell.set(watermark);
    }

    /// Takes the rows as they are for what the targets show, but for results that go on from the disk. Results whose queries fail over them wait, with those
    /// that read them; the others run.
    pub async fn load(
        &mut self,
        tables: &dyn CurrentRows,
        watermark: Option<i64>,
    ) -> Vec<TransformError> {
        self.set_watermark(watermark);
        let (mut failed, mut unusable) = (Vec::new(), HashSet::new());
        for at in 0..self.views.len() {
            let view = &self.views[at];
            let name = view.table().name.clone();
            if view.reads().any(|read| unusable.contains(read)) {
                unusable.insert(name);
                continue;
            }
            if self.is_followed(&name) {
                continue;
            }
            if let Err(error) = self.load_view(at, tables).await {
                unusable.insert(name);
                failed.push(error);
            }
        }
        self.live.clear();
        self.set_failed_aside(&failed);
        failed
    }

    async fn load_view(
        &mut self,
        at: usize,
        tables: &dyn CurrentRows,
    ) -> Result<(), TransformError> {
        let (earlier, rest) = self.views.split_at_mut(at);
        let (results, deltas) = (EarlierViews(earlier), HashMap::new());
        let watermark = WatermarkStep { before: self.watermark, now: self.watermark };
        let context = EvalContext { tables, deltas: &deltas, results: &results, watermark };
        let (view, live, state) = (&mut rest[0], &self.live, &self.state);
        let panicked = view.failure();
        let load = async {
            view.begin();
            show(live, view, &context)?;
            view.load(state, &context).await
        };
        caught(load, panicked).await
    }

    fn set_failed_aside(&mut self, failed: &[TransformError]) {
        let reason = |error: &TransformError| {
            let reason = format!(
                "its query fails over the rows that are there, so it does not run, and its target keeps the rows \
                 that it has: {}; correct the query or these rows; it is tried again at each start and after each \
                 edit of the SQL files",
                chain(&error.source)
            );
            (error.result.clone(), reason)
        };
        self.set_aside(&failed.iter().map(reason).collect());
    }

    /// The whole of every result whose rows in the target are of another definition, or not there at
    /// all; after [`Self::load`] of the same rows. Results whose rows can't be put together wait.
    pub async fn redefined(
        &mut self,
        written: &BTreeMap<String, String>,
        tables: &dyn CurrentRows,
    ) -> Redefined {
        let mut redefined = Redefined::default();
        let deltas = HashMap::new();
        let results = EarlierViews(&self.views);
        let watermark = WatermarkStep { before: self.watermark, now: self.watermark };
        let context = EvalContext { tables, deltas: &deltas, results: &results, watermark };
        let is_other =
            |v: &&MaintainedView| written.get(&v.table().name) != Some(&v.table().definition);
        for view in self.views.iter().filter(is_other) {
            let whole = async { Ok((view.whole(&context)?, view.all_left_out(&context)?)) };
            match caught(whole, view.failure()).await {
                Ok((whole, left_out)) => {
                    redefined.results.extend(whole);
                    redefined.left_out.extend(told(view, &left_out));
                }
                Err(error) => redefined.failed.push(error),
            }
        }
        self.set_failed_aside(&redefined.failed);
        redefined
    }

    /// The rows that the last epoch has left out of results.
    pub fn left_out(&self) -> Vec<LeftOutRows> {
        self.views.iter().flat_map(|view| told(view, view.left_out())).collect()
    }

    /// The rows that a keyed result has now, in parts; `None` if there is no such result.
    ///
    /// # Errors
    /// If the rows can't be put together.
    pub fn rows_now(
        &self,
        result: &str,
        tables: &dyn CurrentRows,
    ) -> Result<Option<Vec<RecordBatch>>, TransformError> {
        let deltas = HashMap::new();
        let results = EarlierViews(&self.views);
        let watermark = WatermarkStep { before: self.watermark, now: self.watermark };
        let context = EvalContext { tables, deltas: &deltas, results: &results, watermark };
        let view = self.views.iter().find(|view| view.table().name == result);
        view.map(|view| view.all(&context).map_err(|source| view.failed(source))).transpose()
    }

    /// Brings every result up to date and tells how each has changed.
    ///
    /// `tables` are the source tables as they are now, `deltas` how they differ from the last call, and
    /// `changes` the epoch's changelogs. A result that reads nothing of what changed is not looked at.
    ///
    /// # Errors
    /// If a query fails. The results are not to be used further, unless they are loaded again.
    pub async fn run(
        &mut self,
        tables: &dyn CurrentRows,
        deltas: Vec<TableDelta>,
        changes: &[Changelog],
        watermark: Option<i64>,
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
            let (live, state, panicked) = (&self.live, &self.state, view.failure());
            let update = async {
                show(live, view, &context)?;
                view.update(state, &context).await
            };
            let update = caught(update, panicked).await?;
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
}

/// What a start writes because targets hold something else.
#[derive(Debug, Default)]
pub struct Redefined {
    pub results: Vec<ResultChanges>,
    /// What these results don't show.
    pub left_out: Vec<LeftOutRows>,
    pub failed: Vec<TransformError>,
}

/// A step of a view; a panic in it is an error of its query, like any other.
async fn caught<T>(
    step: impl Future<Output = Result<T, TransformError>>,
    failed: impl FnOnce(DataFusionError) -> TransformError,
) -> Result<T, TransformError> {
    let panicked = match AssertUnwindSafe(step).catch_unwind().await {
        Ok(done) => return done,
        Err(panicked) => panicked,
    };
    let text = panicked.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panicked.downcast_ref::<&str>().copied());
    let what = format!("it panicked: {}", text.unwrap_or("without a message"));
    Err(failed(DataFusionError::Execution(what)))
}

/// What a view leaves out, by reason.
fn told(view: &MaintainedView, left_out: &LeftOut) -> Vec<LeftOutRows> {
    let reasons = [
        (LeftOutReason::NullKey, &left_out.null_keys),
        (LeftOutReason::DuplicateKey, &left_out.duplicates),
    ];
    let rows = reasons.into_iter().filter_map(|(reason, rows)| {
        let (result, path) = (Arc::clone(view.table()), view.path().to_owned());
        Some(LeftOutRows { result, path, reason, count: rows.count, some: rows.some.clone()? })
    });
    rows.collect()
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
            all_of_result(context, name)
        };
        live.set(name, rows.map_err(|source| view.failed(source))?);
    }
    Ok(())
}

fn all_of_result(
    context: &EvalContext<'_>,
    name: &str,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    let mut parts = Vec::new();
    context.results.scan(name, context, &mut |part| {
        parts.push(part);
        Ok(())
    })?;
    Ok(parts)
}

/// The views that ran before the one that runs.
#[derive(Debug)]
pub(super) struct EarlierViews<'a>(pub(super) &'a [MaintainedView]);

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

    fn scan(
        &self,
        name: &str,
        context: &EvalContext<'_>,
        visit: Visit<'_>,
    ) -> Result<(), DataFusionError> {
        let results = self.before(name);
        self.get(name)?.scan(&EvalContext { results: &results, ..*context }, visit)
    }
}
