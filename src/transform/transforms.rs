//! All transforms of a folder as they were planned, and what can be asked about them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use super::files::{SqlError, changes_name};
use super::functions::watermark::WatermarkCell;
use super::live_table::LiveTables;
use super::pending::PendingTransform;
use super::views::{MaintainedView, Maintenance};
use crate::model::{EpochLog, ResultTable, SchemaChange, Table, TemporalJoin, Window};

/// All transforms of a folder, in the order of what they read.
pub struct Transforms {
    pub(crate) state: SessionState,
    pub(crate) live: LiveTables,
    pub(crate) watermark_cell: WatermarkCell,
    pub(crate) watermark: Option<i64>,
    /// The watermark when each epoch began that may still be taken back.
    pub(crate) watermarks_before: EpochLog<Option<i64>>,
    pub(crate) views: Vec<MaintainedView>,
    /// Results that go on from what the disk has of them.
    pub(super) followed: HashSet<String>,
    /// Those that could not be brought up to date.
    pub(super) unfollowed: HashSet<String>,
    /// What the operators of each result compute.
    pub(super) identities: BTreeMap<String, String>,
    /// What queries read of look-up tables.
    pub(crate) temporal_joins: Vec<Arc<TemporalJoin>>,
    pub(crate) tables: Vec<Arc<Table>>,
    pub(crate) pending: Vec<PendingTransform>,
    /// Files whose columns events have a say in.
    pub(crate) learned: HashSet<String>,
}

impl Transforms {
    /// No files over these tables.
    pub(crate) fn over(tables: Vec<Arc<Table>>) -> Self {
        let mut live = LiveTables::default();
        tables.iter().for_each(|table| live.add_source(table));
        Self {
            state: SessionContext::new().state(),
            live,
            watermark_cell: WatermarkCell::default(),
            watermark: None,
            watermarks_before: EpochLog::default(),
            views: Vec::new(),
            followed: HashSet::new(),
            unfollowed: HashSet::new(),
            identities: BTreeMap::new(),
            temporal_joins: Vec::new(),
            tables,
            pending: Vec::new(),
            learned: HashSet::new(),
        }
    }

    /// The tables, with the undeclared columns that a file reads.
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    /// The files that don't run, because something is not there yet.
    pub fn pending(&self) -> &[PendingTransform] {
        &self.pending
    }

    /// Whether events have a say in the columns of a result, so that what does not fit is no mistake of its file.
    pub fn may_wait(&self, result: &str) -> bool {
        self.learned.contains(result)
    }

    /// Lets results wait whose targets don't take their rows, for the reasons that are given, and so those that
    /// read them. What they read of undeclared columns is still watched.
    pub fn set_aside(&mut self, unfit: &BTreeMap<String, String>) {
        for view in std::mem::take(&mut self.views) {
            let result = view.table().name.clone();
            let read = self.pending.iter().find(|pending| view.reads_any(&[&pending.result]));
            let pending = match (unfit.get(&result), read) {
                (Some(reason), _) => {
                    let (path, message) = (view.path().into(), reason.clone());
                    let reason = SqlError { path, at: None, message };
                    PendingTransform { result, reason, needs: None, meant: None }
                }
                (None, Some(read)) => read.reader(result),
                (None, None) => {
                    self.views.push(view);
                    continue;
                }
            };
            self.pending.push(pending);
        }
        let is_read =
            |e: &Arc<TemporalJoin>| self.views.iter().any(|v| v.reads_any(&[&e.view.name]));
        self.temporal_joins.retain(is_read);
    }

    /// Whether the files are to be planned anew, now that events have shown this column: one waits for it,
    /// or reads it as another type.
    pub fn awaits(&self, change: &SchemaChange) -> bool {
        let is_other = |table: &Arc<Table>| {
            table.source == change.source
                && table.learned().any(|(column, field)| {
                    field == change.column && column.data_type != change.seen.data_type()
                })
        };
        self.pending.iter().any(|pending| pending.may_end(change))
            || self.tables.iter().any(is_other)
    }

    /// How each file is maintained, in the order in which they run.
    pub fn explain(&self) -> impl Iterator<Item = (&Arc<ResultTable>, &Maintenance)> {
        self.views.iter().map(|m| (m.table(), m.maintenance()))
    }

    /// The results that are maintained, in the order in which they run.
    pub fn results(&self) -> impl Iterator<Item = &Arc<ResultTable>> {
        self.views.iter().map(MaintainedView::table)
    }

    /// The names of the tables, changelogs and results that each result reads.
    pub fn reads(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        let declared = |name| {
            let temporal_join = self.temporal_joins.iter().find(|e| e.view.name == name);
            temporal_join.map_or(name, |temporal_join| temporal_join.looked_up.name.as_str())
        };
        self.views.iter().map(move |m| {
            let reads: BTreeSet<&str> = m.reads().map(declared).collect();
            (m.table().name.as_str(), reads.into_iter().collect())
        })
    }

    /// The columns of a source table that some query reads, of its current rows or its changes.
    pub fn columns_read(&self, table: &Table) -> Vec<usize> {
        let changes = changes_name(&table.name);
        let names = [table.name.as_str(), &changes];
        let is_looked_up =
            |e: &Arc<TemporalJoin>| e.looked_up.name == table.name || e.enriched.name == table.name;
        let reads_all = self.temporal_joins.iter().any(is_looked_up);
        let is_read = |name: &str| self.views.iter().any(|m| m.reads_column(&names, name));
        let columns = table.columns.iter().enumerate();
        columns.filter(|(_, c)| reads_all || is_read(&c.name)).map(|(at, _)| at).collect()
    }

    /// What the state keeps of look-up tables, each once.
    pub fn temporal_joins(&self) -> &[Arc<TemporalJoin>] {
        &self.temporal_joins
    }

    /// What a result reads of look-up tables.
    pub fn looked_up(&self, result: &str) -> impl Iterator<Item = &TemporalJoin> {
        let views = self.views.iter().filter(move |m| m.table().name == result);
        views.flat_map(|m| {
            let is_read = |e: &&TemporalJoin| m.reads().any(|name| name == e.view.name);
            self.temporal_joins.iter().map(|temporal_join| &**temporal_join).filter(is_read)
        })
    }

    /// Whether the rows of a result, or of one that it reads, depend on the watermark.
    pub fn goes_by_time(&self, result: &str) -> bool {
        let mut derived: Vec<&str> = Vec::new();
        for view in &self.views {
            if view.reads_watermark() || view.reads_any(&derived) {
                derived.push(&view.table().name);
            }
        }
        derived.contains(&result)
    }

    /// The windows over the rows of a source table, and over what any transform makes of them.
    pub fn windows(&self, table: &str) -> Vec<Window> {
        let mut derived = vec![table];
        let mut windows = BTreeSet::new();
        for view in &self.views {
            if view.reads_any(&derived) {
                derived.push(&view.table().name);
                windows.extend(view.windows());
            }
        }
        windows.into_iter().collect()
    }

    /// The columns of source tables by which rows are looked up.
    pub fn indexes(&self) -> impl Iterator<Item = &(String, Vec<usize>)> {
        self.views.iter().flat_map(MaintainedView::indexes)
    }

    /// Bytes that each result keeps for its upkeep.
    pub fn memory(&self) -> impl Iterator<Item = (&str, usize)> {
        self.views.iter().map(|m| (m.table().name.as_str(), m.memory()))
    }
}
