//! All stores of a pipeline, and the rules that need more than one table.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use hashbrown::{HashMap, HashSet};

use super::disk::{Durable, Engine, StateFolder};
use super::error::StateError;
use super::store::{Folded, LastChange, TableStore};
use super::temporal_join::{JoinedView, RowsBefore};
use super::time::{Advanced, Clock, Clocks, Ticks};
use crate::model::{Changelog, EpochLog, Offset, Table, Window};

/// How long a table without events holds the watermark back, unless it is set.
const IDLE_AFTER: Duration = Duration::from_secs(30);

/// All state stores of a pipeline, and the clock that their ttl goes by.
#[derive(Debug)]
pub struct StateStores {
    pub(super) stores: Vec<TableStore>,
    pub(super) by_name: HashMap<String, usize>,
    /// The windows over a table's event time, shortest first.
    pub(super) windows: HashMap<String, Vec<Window>>,
    /// What rows show of tables that they look up.
    pub(super) joins: Vec<JoinedView>,
    /// Of looked-up tables: how the rows were that this epoch has folded.
    pub(super) rows_before: HashMap<String, RowsBefore>,
    pub(super) clocks: Clocks,
    pub(super) memory_limit: Option<ByteSize>,
    /// Where rows go that are not in memory; `None`: all stay.
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) durable: Box<Durable>,
    /// The disk did not take what had changed.
    pub(super) has_failed_to_flush: bool,
    /// Memory is full of what the disk does not have.
    pub(super) is_full_of_changes: bool,
    /// Tables whose rows stay in memory.
    pub(super) resident: HashSet<String>,
    /// Tables whose rows no result needs.
    pub(super) unread: HashSet<String>,
    /// Where the clock is set when the rows are loaded.
    start_time: Option<i64>,
    /// Since rows were last moved out of memory.
    pub(super) updates: usize,
    /// How the clock was when each epoch began that may still be taken back.
    before: EpochLog<ClockBefore>,
    /// Goes after the rows.
    pub(super) folder: Option<Arc<StateFolder>>,
}

/// What an epoch changes besides rows.
#[derive(Debug)]
struct ClockBefore {
    clocks: Clocks,
    updates: usize,
}

impl StateStores {
    /// # Errors
    /// If a table references one that is not there, or has a key that can't be encoded.
    pub fn new(tables: &[Arc<Table>], watermark_delay: Duration) -> Result<Self, StateError> {
        let mut stores: Vec<TableStore> =
            tables.iter().map(|it| TableStore::new(Arc::clone(it))).collect::<Result<_, _>>()?;
        tables.iter().try_for_each(|table| check_reference(table, tables))?;
        for store in &mut stores {
            index_extracted(store, tables)?;
        }
        let by_name: HashMap<String, usize> =
            stores.iter().enumerate().map(|(at, s)| (s.table().name.clone(), at)).collect();
        let of_tables = stores.iter().map(|store| &**store.table());
        let clocks = Clocks::new(of_tables, micros(watermark_delay), micros(IDLE_AFTER));
        Ok(Self {
            stores,
            by_name,
            windows: HashMap::new(),
            joins: Vec::new(),
            rows_before: HashMap::new(),
            clocks,
            memory_limit: None,
            engine: None,
            durable: Box::default(),
            has_failed_to_flush: false,
            is_full_of_changes: false,
            folder: None,
            resident: HashSet::new(),
            unread: HashSet::new(),
            start_time: None,
            updates: 0,
            before: EpochLog::default(),
        })
    }

    /// Says which windows are over the rows of a table: an event is late when all of its windows are closed.
    pub(super) fn note_windows(&mut self, table: &str, mut windows: Vec<Window>) {
        windows.sort_unstable();
        self.windows.insert(table.to_owned(), windows);
    }

    /// Where rows go that are not in memory.
    pub fn use_folder(&mut self, folder: &Arc<StateFolder>) {
        self.engine = Some(Arc::clone(folder.engine()));
        self.folder = Some(Arc::clone(folder));
    }

    /// Bytes of the files of the rows that are not in memory.
    pub fn disk_bytes(&self) -> u64 {
        self.engine.as_ref().map_or(0, |engine| engine.disk_space())
    }

    /// Keeps all rows of a table in memory.
    pub fn keep_in_memory(&mut self, table: &str) {
        self.resident.insert(table.to_owned());
    }

    /// Lets rows of a table leave memory after an hour without a change, because no result needs them.
    pub(super) fn note_unread(&mut self, table: &str) {
        self.unread.insert(table.to_owned());
    }

    /// How long a table may be without events, by the source's clock, before the watermark goes on
    /// without it.
    pub fn set_idle_after(&mut self, idle_after: Duration) {
        self.clocks.idle_after = micros(idle_after);
    }

    /// A time that lies ahead of the wall clock (microseconds since 1970) by more than a day is wrong.
    pub fn go_by(&mut self, wall: fn() -> i64) {
        self.clocks.wall = Some(wall);
    }

    /// Sets the source's clock when the rows are loaded, in place of what they and the ledger say.
    pub fn start_at(&mut self, time: i64) {
        self.start_time = Some(time);
    }

    /// Whether the clock was set to another time than that of rows and ledger.
    pub fn has_start_time(&self) -> bool {
        self.start_time.is_some()
    }

    /// Sets the clock, if it is to be set.
    pub(super) fn set_start_time(&mut self) {
        if let Some(time) = self.start_time {
            self.clocks.set(time);
        }
    }

    /// Starts the watermark where the ledger says that it was.
    pub(super) fn resume_watermark(&mut self, watermark: i64) {
        self.clocks.resume(watermark);
    }

    pub fn clock(&self) -> Clock {
        self.clocks.now()
    }

    /// Moves the clock by what the changes of an epoch say, in broker order over all tables.
    pub fn advance(&mut self, changes: &[Changelog]) -> Advanced {
        let mut ticks = Ticks::default();
        for changelog in changes {
            Clocks::note(&mut ticks, self.by_name[&changelog.table.name], changelog);
        }
        self.clocks.advance(ticks)
    }

    /// Notes the times of rows that are loaded, for [`Self::advance_to`].
    pub(super) fn note_times(&self, ticks: &mut Ticks, changelog: &Changelog) {
        Clocks::note(ticks, self.by_name[&changelog.table.name], changelog);
        ticks.keep_newest();
    }

    /// Moves the clock by the times of all rows that were loaded.
    pub(super) fn advance_to(&mut self, ticks: Ticks) -> Advanced {
        self.clocks.advance(ticks)
    }

    pub fn stores(&self) -> impl Iterator<Item = &TableStore> {
        self.stores.iter()
    }

    /// The store of the changelog's table.
    pub(super) fn store_of(&self, changelog: &Changelog) -> &TableStore {
        &self.stores[self.by_name[&changelog.table.name]]
    }

    pub(super) fn store(&self, table: &str) -> Option<&TableStore> {
        self.by_name.get(table).map(|at| &self.stores[*at])
    }

    /// Keeps an index on some columns of a table, so that rows can be looked up by them.
    ///
    /// # Errors
    /// If a column has a type that Arrow can't turn into a row key.
    pub fn add_index(&mut self, table: &str, columns: &[usize]) -> Result<(), StateError> {
        match self.by_name.get(table) {
            Some(at) => self.stores[*at].add_index(columns),
            None => Ok(()),
        }
    }

    /// Leaves the values of all other columns of a table out of memory; see [`TableStore::keep_columns`].
    pub(super) fn keep_columns(&mut self, table: &str, read: &[usize]) {
        if let Some(at) = self.by_name.get(table) {
            self.stores[*at].keep_columns(read);
        }
    }

    /// From here on everything can be taken back, until [`Self::commit_epoch`].
    pub fn begin_epoch(&mut self) {
        self.stores.iter_mut().for_each(TableStore::begin_epoch);
        self.joins.iter_mut().for_each(JoinedView::begin_epoch);
        let (clocks, updates) = (self.clocks.clone(), self.updates);
        self.before.begin(ClockBefore { clocks, updates });
    }

    /// All of the epoch is computed; it waits for its commit.
    pub fn finish_epoch(&mut self) {
        self.before.finish();
        self.stores.iter_mut().for_each(TableStore::finish_epoch);
        self.joins.iter_mut().for_each(JoinedView::finish_epoch);
    }

    /// The oldest finished epoch stays for good.
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub fn commit_epoch(&mut self) -> Result<(), StateError> {
        self.before.commit();
        self.stores.iter_mut().for_each(TableStore::commit_epoch);
        self.joins.iter_mut().try_for_each(JoinedView::commit_epoch)
    }

    /// Makes everything what it was when the newest epoch began.
    ///
    /// # Errors
    /// If Arrow can't process a batch. The state is not to be used further then.
    pub fn abort_epoch(&mut self) -> Result<(), StateError> {
        if let Some(ClockBefore { clocks, updates }) = self.before.abort() {
            (self.clocks, self.updates) = (clocks, updates);
        }
        self.rows_before.clear();
        self.joins.iter_mut().try_for_each(JoinedView::abort_epoch)?;
        self.stores.iter_mut().try_for_each(TableStore::abort_epoch)
    }

    /// Applies the changes of one table. The clock is moved by [`Self::advance`] before, and look-ups
    /// follow by [`Self::look_up`] when all of an epoch is folded.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn fold(&mut self, changelog: Changelog) -> Result<Folded, StateError> {
        self.updates += changelog.len();
        let at = self.by_name[&changelog.table.name];
        self.stores[at].recall(&changelog)?;
        self.note_before(&changelog)?;
        self.stores[at].fold(changelog)
    }

    pub(super) fn note_truncate(&mut self, table: &str, truncate: LastChange) {
        if let Some(at) = self.by_name.get(table) {
            self.stores[*at].note_truncate(truncate);
        }
    }

    /// Fills the cells of unchanged LOBs of changes that are landed and not folded.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn fill_unchanged(&self, changelog: &mut Changelog) -> Result<(), StateError> {
        self.store_of(changelog).fill_unchanged(changelog)
    }

    /// The events of a changelog that give a row a new key and don't carry a LOB whose value under the old key is
    /// not known; each with the column. To be asked before anything of it is folded, and when all rows that it
    /// needs are in memory.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn unknown_cells(&self, changelog: &Changelog) -> Result<Vec<(Offset, usize)>, StateError> {
        let store = self.store_of(changelog);
        store.unknown_cells(changelog).map_err(|source| store.error(source))
    }
}

/// The rows that were extracted from one row of the source table are found by its key.
fn index_extracted(store: &mut TableStore, tables: &[Arc<Table>]) -> Result<(), StateError> {
    let table = Arc::clone(store.table());
    let Some(name) = table.extracted_from() else { return Ok(()) };
    match tables.iter().find(|parent| parent.name == name) {
        Some(parent) => store.add_index(&(0..parent.key.len()).collect::<Vec<_>>()),
        None => {
            let (table, parent) = (table.name.clone(), name.to_owned());
            Err(StateError::UnknownParent { table, parent })
        }
    }
}

fn check_reference(table: &Table, tables: &[Arc<Table>]) -> Result<(), StateError> {
    let Some(reference) = &table.options.references else { return Ok(()) };
    let names = || (table.name.clone(), reference.table.clone());
    let Some(parent) = tables.iter().find(|parent| parent.name == reference.table) else {
        let (table, parent) = names();
        return Err(StateError::UnknownParent { table, parent });
    };
    let data_type = &table.columns[reference.column].data_type;
    match parent.key.as_slice() {
        [key] if parent.columns[*key].data_type == *data_type => Ok(()),
        _ => {
            let (table, parent) = names();
            Err(StateError::ReferenceMismatch { table, parent })
        }
    }
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
