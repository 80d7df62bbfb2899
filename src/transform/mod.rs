//! SQL files to maintained results.
//!
//! [`parse_tables`] reads `sql/tables`, [`Transforms::plan`] reads `sql/transforms` against them, and
//! [`Transforms::run`] turns changes of the source tables into changes of each result. How a
//! result is kept up to date is decided in one place, `maintain`; nothing else knows.
//!
//! It knows SQL and Arrow. It does not know where rows come from or where results go.

mod channel;
mod dataflow;
mod functions;
mod header;
mod live_table;
mod location;
mod lookup;
mod maintain;
mod options;
mod output;
mod plan;
mod reads;
mod session;
mod sql_file;
mod tables;
mod undeclared;
mod windows;
mod xml_rows;
mod xml_table;

pub use maintain::Maintenance;
pub use sql_file::{SqlError, SqlFile, read_folder};
pub use tables::{parse_tables, parse_type};
pub use undeclared::{NewTables, Waiting};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use crate::model::{
    Changelog, CurrentRows, Enrichment, Found, Lookup, ResultChanges, ResultTable, SchemaChange,
    Table, TableDelta, Window,
};
use crate::resilience::Recovery;
use dataflow::{Delta, Moment, Results};
use functions::WatermarkCell;
use live_table::{LiveTables, changes_name};
use maintain::{Maintained, Told};

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
            Self::Run { .. } => Recovery::DeadLetter,
            Self::DuplicateKey { .. } | Self::NullKey { .. } | Self::Compare { .. } => {
                Recovery::Stop
            }
        }
    }
}

/// All transforms of a folder, in the order of what they read.
pub struct Transforms {
    state: SessionState,
    live: LiveTables,
    watermark_cell: WatermarkCell,
    watermark: Option<i64>,
    maintained: Vec<Maintained>,
    /// What the look-ups of the transforms go by: a source table and some of its columns.
    indexes: Vec<(String, Vec<usize>)>,
    /// What queries read of look-up tables.
    enrichments: Vec<Arc<Enrichment>>,
    tables: Vec<Arc<Table>>,
    waiting: Vec<Waiting>,
    /// Files whose columns events have a say in.
    learned: HashSet<String>,
}

impl Transforms {
    /// Plans the files of `sql/transforms` against the declared tables.
    ///
    /// # Errors
    /// Everything that is wrong in any file, with file, line and column.
    pub async fn plan(tables: &[Arc<Table>], files: &[SqlFile]) -> Result<Self, Vec<SqlError>> {
        let planned = Self::plan_known(tables, &[], files).await?;
        match planned.waiting.is_empty() {
            true => Ok(planned),
            false => Err(planned.waiting.into_iter().map(|waiting| waiting.reason).collect()),
        }
    }

    /// Plans the files against the tables with the columns that their events have shown. A file that reads
    /// a column which is not among them waits, and so do those that read its result.
    ///
    /// # Errors
    /// Everything else that is wrong in any file, with file, line and column.
    pub async fn plan_known(
        tables: &[Arc<Table>],
        registry: &[SchemaChange],
        files: &[SqlFile],
    ) -> Result<Self, Vec<SqlError>> {
        Self::plan_with(tables, registry, files, NewTables::Never).await
    }

    /// As [`Self::plan_known`]; where tables may come that no file declares, a file that reads one waits too.
    ///
    /// # Errors
    /// As there.
    pub async fn plan_with(
        tables: &[Arc<Table>],
        registry: &[SchemaChange],
        files: &[SqlFile],
        new_tables: NewTables,
    ) -> Result<Self, Vec<SqlError>> {
        Self::plan_without(tables, registry, files, (new_tables, &BTreeMap::new())).await
    }

    /// No files over these tables.
    fn over(tables: Vec<Arc<Table>>) -> Self {
        let mut live = LiveTables::default();
        tables.iter().for_each(|table| live.add_source(table));
        Self {
            state: SessionContext::new().state(),
            live,
            watermark_cell: WatermarkCell::default(),
            watermark: None,
            maintained: Vec::new(),
            indexes: Vec::new(),
            enrichments: Vec::new(),
            tables,
            waiting: Vec::new(),
            learned: HashSet::new(),
        }
    }

    /// The tables, with the undeclared columns that a file reads.
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    /// The files that don't run, because a column is not there yet.
    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// Whether events have a say in the columns of a result, so that what does not fit is no mistake of its file.
    pub fn may_wait(&self, result: &str) -> bool {
        self.learned.contains(result)
    }

    /// Whether the files are to be planned anew, now that events have shown this column: one waits for it,
    /// or reads it as another type.
    pub fn awaits(&self, change: &SchemaChange) -> bool {
        let is_other = |table: &Arc<Table>| {
            let columns = table.columns[table.declared().len()..].iter();
            let mut extra = columns.zip(&table.options.extra);
            table.source == change.source
                && extra.any(|(column, field)| {
                    *field == change.column && column.data_type != change.seen.data_type()
                })
        };
        self.waiting.iter().any(|waiting| waiting.may_end(change))
            || self.tables.iter().any(is_other)
    }

    /// How each file is maintained, in the order in which they run.
    pub fn explain(&self) -> impl Iterator<Item = (&Arc<ResultTable>, &Maintenance)> {
        self.maintained.iter().map(|m| (m.table(), m.maintenance()))
    }

    /// The results that are maintained, in the order in which they run.
    pub fn results(&self) -> impl Iterator<Item = &Arc<ResultTable>> {
        self.maintained.iter().map(Maintained::table)
    }

    /// The names of the tables, changelogs and results that each result reads.
    pub fn reads(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        let declared = |name| {
            let enrichment = self.enrichments.iter().find(|e| e.view.name == name);
            enrichment.map_or(name, |enrichment| enrichment.looked_up.name.as_str())
        };
        self.maintained.iter().map(move |m| {
            let reads: BTreeSet<&str> = m.reads().map(declared).collect();
            (m.table().name.as_str(), reads.into_iter().collect())
        })
    }

    /// The columns of a source table that some query reads, of its current rows or its changes.
    pub fn columns_read(&self, table: &Table) -> Vec<usize> {
        let changes = changes_name(&table.name);
        let names = [table.name.as_str(), &changes];
        let is_looked_up =
            |e: &Arc<Enrichment>| e.looked_up.name == table.name || e.enriched.name == table.name;
        let reads_all = self.enrichments.iter().any(is_looked_up);
        let is_read = |name: &str| self.maintained.iter().any(|m| m.reads_column(&names, name));
        let columns = table.columns.iter().enumerate();
        columns.filter(|(_, c)| reads_all || is_read(&c.name)).map(|(at, _)| at).collect()
    }

    /// What the state keeps of look-up tables, each once.
    pub fn enrichments(&self) -> &[Arc<Enrichment>] {
        &self.enrichments
    }

    /// What a result reads of look-up tables.
    pub fn looked_up(&self, result: &str) -> impl Iterator<Item = &Enrichment> {
        let maintained = self.maintained.iter().filter(move |m| m.table().name == result);
        maintained.flat_map(|m| {
            let is_read = |e: &&Enrichment| m.reads().any(|name| name == e.view.name);
            self.enrichments.iter().map(|enrichment| &**enrichment).filter(is_read)
        })
    }

    /// The windows over the rows of a source table, and over what any transform makes of them.
    pub fn windows(&self, table: &str) -> Vec<Window> {
        let mut derived = HashSet::from([table]);
        let mut windows = BTreeSet::new();
        for maintained in &self.maintained {
            if maintained.reads_any(&derived) {
                derived.insert(&maintained.table().name);
                windows.extend(maintained.windows());
            }
        }
        windows.into_iter().collect()
    }

    /// The columns of source tables by which rows are looked up.
    pub fn indexes(&self) -> &[(String, Vec<usize>)] {
        &self.indexes
    }

    /// Bytes that each result keeps for its upkeep.
    pub fn memory(&self) -> impl Iterator<Item = (&str, usize)> {
        self.maintained.iter().map(|m| (m.table().name.as_str(), m.memory()))
    }

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
        for at in 0..self.maintained.len() {
            let (earlier, rest) = self.maintained.split_at_mut(at);
            let results = Earlier(earlier);
            let watermark = (watermark, watermark);
            let moment = Moment { tables, deltas: &deltas, results: &results, watermark };
            let maintained = &mut rest[0];
            maintained.begin();
            show(&self.live, maintained, &moment)?;
            maintained.load(&self.state, &moment).await?;
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
        let results = Earlier(&self.maintained);
        let watermark = (self.watermark, self.watermark);
        let moment = Moment { tables, deltas: &deltas, results: &results, watermark };
        let is_other =
            |m: &&Maintained| written.get(&m.table().name) != Some(&m.table().definition);
        self.maintained.iter().filter(is_other).map(|m| m.whole(&moment)).collect()
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
        let results = Earlier(&self.maintained);
        let watermark = (self.watermark, self.watermark);
        let moment = Moment { tables, deltas: &deltas, results: &results, watermark };
        let maintained = self.maintained.iter().find(|m| m.table().name == result);
        maintained.map(|m| Ok(m.whole(&moment)?.upserts)).transpose()
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
        self.advance(tables, (deltas, changes), watermark, Told::Target).await
    }

    async fn advance(
        &mut self,
        tables: &dyn CurrentRows,
        (deltas, changes): (Vec<TableDelta>, &[Changelog]),
        watermark: Option<i64>,
        told: Told,
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
        for at in 0..self.maintained.len() {
            let (earlier, rest) = self.maintained.split_at_mut(at);
            let maintained = &mut rest[0];
            maintained.begin();
            if !maintained.is_affected(&changed, has_moved) {
                continue;
            }
            let earlier = Earlier(earlier);
            let watermark = (before, watermark);
            let moment = Moment { tables, deltas: &deltas, results: &earlier, watermark };
            show(&self.live, maintained, &moment)?;
            let update = maintained.update(&self.state, &moment, told).await?;
            if maintained.delta().is_some() {
                changed.insert(maintained.table().name.clone());
            }
            if !update.is_empty() {
                results.push(update);
            }
        }
        self.live.clear();
        Ok(results)
    }

    /// Every result, computed anew by DataFusion alone, whatever is kept: the referee.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn computed_anew(
        &self,
        tables: &dyn CurrentRows,
        watermark: Option<i64>,
    ) -> Result<Vec<(Arc<ResultTable>, RecordBatch)>, TransformError> {
        let mut results: Vec<(Arc<ResultTable>, RecordBatch)> = Vec::new();
        let kept = self.watermark;
        self.watermark_cell.set(watermark);
        for maintained in &self.maintained {
            for name in maintained.reads().filter(|name| self.live.is_source(name)) {
                let rows = tables.all(name).map_err(|error| maintained.failed(error.into()))?;
                self.live.set(name, rows);
            }
            let rows = maintained.compute_anew(&self.state).await?;
            self.live.set(&maintained.table().name, vec![rows.clone()]);
            results.push((Arc::clone(maintained.table()), rows));
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
        self.advance(tables, (put_back, &[]), self.watermark, Told::Nobody).await.map(drop)
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
        self.advance(tables, (dropped, &[]), self.watermark, Told::Nobody).await.map(drop)
    }
}

/// Shows a query that is run as a whole the rows that it reads.
fn show(
    live: &LiveTables,
    maintained: &Maintained,
    moment: &Moment<'_>,
) -> Result<(), TransformError> {
    if !maintained.runs_as_a_whole() {
        return Ok(());
    }
    // A recursive query also reads a table of its own.
    let shown = maintained.reads().filter(|name| live.holds(name) && !live.is_changelog(name));
    for name in shown {
        let rows = match live.is_source(name) {
            true => moment.tables.all(name).map_err(DataFusionError::from),
            false => moment.results.all(name, moment).map(|rows| vec![rows]),
        };
        live.set(name, rows.map_err(|source| maintained.failed(source))?);
    }
    Ok(())
}

/// The transforms that ran before the one at hand.
#[derive(Debug)]
struct Earlier<'a>(&'a [Maintained]);

impl Earlier<'_> {
    fn get(&self, name: &str) -> Result<&Maintained, DataFusionError> {
        let missing = || DataFusionError::Internal(format!("{name} has not run yet"));
        self.0.iter().find(|m| m.table().name == name).ok_or_else(missing)
    }

    /// The moment as `name` sees it.
    fn before(&self, name: &str) -> Earlier<'_> {
        let at = self.0.iter().position(|m| m.table().name == name).unwrap_or(0);
        Earlier(&self.0[..at])
    }
}

impl Results for Earlier<'_> {
    fn delta(&self, name: &str) -> Option<&Delta> {
        self.get(name).ok().and_then(Maintained::delta)
    }

    fn find(
        &self,
        name: &str,
        lookup: Lookup<'_>,
        moment: &Moment<'_>,
    ) -> Result<Found, DataFusionError> {
        let results = self.before(name);
        self.get(name)?.find(lookup, &Moment { results: &results, ..*moment })
    }

    fn all(&self, name: &str, moment: &Moment<'_>) -> Result<RecordBatch, DataFusionError> {
        let results = self.before(name);
        self.get(name)?.all(&Moment { results: &results, ..*moment })
    }
}

#[cfg(test)]
mod tests;
