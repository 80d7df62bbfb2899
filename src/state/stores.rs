//! All stores of a pipeline, and the rules that need more than one table.

use std::sync::Arc;

use bytesize::ByteSize;
use hashbrown::{HashMap, HashSet};

use super::error::StateError;
use super::store::{Folded, Horizon, TableStore};
use super::temporal_join::{JoinedView, RowsBefore};
use super::time::{Advanced, Clock, Clocks, Ticks};
use crate::model::{Changelog, EpochLog, Offset, Position, Table, TableDelta, Window};

/// After how many updates ttl is looked at again.
const UPDATES_BETWEEN_CHECKS: usize = 500;

/// How long a table without events holds the watermark back, unless it is set.
const IDLE_AFTER: std::time::Duration = std::time::Duration::from_secs(30);

/// The rows that left memory by ttl: deletes only.
pub type Expired = Vec<TableDelta>;

/// All state stores of a pipeline, and the clock that their ttl goes by.
#[derive(Debug)]
pub struct StateStores {
    /// Referenced tables come before the tables that reference them.
    pub(super) stores: Vec<TableStore>,
    pub(super) by_name: HashMap<String, usize>,
    /// The windows over a table's event time, shortest first.
    pub(super) windows: HashMap<String, Vec<Window>>,
    /// What rows show of tables that they look up.
    pub(super) joins: Vec<JoinedView>,
    /// Of looked-up tables: how the rows were that this epoch has folded.
    pub(super) rows_before: HashMap<String, RowsBefore>,
    clocks: Clocks,
    pub(super) memory_limit: Option<ByteSize>,
    /// Tables whose rows no result needs.
    unread: HashSet<String>,
    /// Where the clock is set when the rows are loaded.
    start_time: Option<i64>,
    updates: usize,
    /// The newest change at the end of the last epoch, and of the one before.
    newest: [Position; 2],
    /// How the clock was when each epoch began that may still be taken back.
    before: EpochLog<ClockBefore>,
}

/// What an epoch changes besides rows.
#[derive(Debug)]
struct ClockBefore {
    clocks: Clocks,
    updates: usize,
    newest: [Position; 2],
}

impl StateStores {
    /// # Errors
    /// If a table references one that is not there, or has a key that can't be encoded.
    pub fn new(
        tables: &[Arc<Table>],
        watermark_delay: std::time::Duration,
    ) -> Result<Self, StateError> {
        let mut stores: Vec<TableStore> =
            parents_first(tables)?.into_iter().map(TableStore::new).collect::<Result<_, _>>()?;
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
            unread: HashSet::new(),
            start_time: None,
            updates: 0,
            newest: [NONE_LANDED; 2],
            before: EpochLog::default(),
        })
    }

    /// Keeps the rows of `table` in memory until these windows over them are closed.
    pub(super) fn keep_for_windows(&mut self, table: &str, mut windows: Vec<Window>) {
        windows.sort_unstable();
        self.windows.insert(table.to_owned(), windows);
    }

    /// Lets rows of a table go after an hour without a change, because no result needs them.
    pub(super) fn note_unread(&mut self, table: &str) {
        self.unread.insert(table.to_owned());
    }

    /// How long a table may be without events, by the source's clock, before the watermark goes on
    /// without it.
    pub fn set_idle_after(&mut self, idle_after: std::time::Duration) {
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
        let (clocks, updates, newest) = (self.clocks.clone(), self.updates, self.newest);
        self.before.begin(ClockBefore { clocks, updates, newest });
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
        if let Some(ClockBefore { clocks, updates, newest }) = self.before.abort() {
            (self.clocks, self.updates, self.newest) = (clocks, updates, newest);
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
        self.note_before(&changelog)?;
        let at = self.by_name[&changelog.table.name];
        self.stores[at].fold(changelog)
    }

    /// Remembers truncates by the deletes that they have landed: newest rows of keys, as a start reads them.
    pub(super) fn note_truncates(&mut self, newest: &Changelog) {
        self.stores[self.by_name[&newest.table.name]].note_truncates(newest);
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

    /// Says that everything folded so far is landed, as it is after it was read from there.
    pub fn mark_landed(&mut self) {
        self.newest = [self.newest(); 2];
    }

    /// Drops what ttl allows to drop, every 500 updates; to be called once at the end of every epoch.
    ///
    /// Rows that changed in this epoch or the one before stay: these may be in flight while the
    /// next one is processed, and who looks for a dropped row in the landing table must find it
    /// there. By the source's clock a backlog of hours goes by in one epoch.
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub fn expire(&mut self) -> Result<Expired, StateError> {
        let [last, landed] = self.newest;
        self.newest = [self.newest(), last];
        if self.updates < UPDATES_BETWEEN_CHECKS {
            return Ok(Vec::new());
        }
        self.updates = 0;
        let mut expired = Vec::new();
        for at in 0..self.stores.len() {
            let Some(horizon) = self.horizon(&self.stores[at], landed) else { continue };
            let (parents, stores) = self.stores.split_at_mut(at);
            expired.extend(stores[0].expire(parents, &horizon)?);
        }
        Ok(expired)
    }

    fn newest(&self) -> Position {
        self.stores.iter().filter_map(TableStore::newest).max().unwrap_or(NONE_LANDED)
    }

    fn horizon(&self, store: &TableStore, landed: Position) -> Option<Horizon> {
        let Clock { source, watermark } = self.clocks.now();
        let source = source?;
        let name = &store.table().name;
        let unread = self.unread.contains(name).then_some(UNREAD_KEPT);
        let ttl = store.table().options.ttl.map(micros).or(unread);
        let windows = self.windows.get(&store.table().name);
        let span = windows.and_then(|windows| windows.last()).map_or(0, |longest| longest.length);
        Some(Horizon {
            changed_before: ttl.map(|ttl| source.saturating_sub(ttl)),
            event_before: watermark.map_or(i64::MIN, |w| w.saturating_sub(span)),
            forget_deletes_before: source.saturating_sub(ttl.unwrap_or(DELETES_KEPT)),
            landed,
        })
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

/// Below every position.
const NONE_LANDED: Position = Position(i64::MIN);

/// Every table after the one that it references.
fn parents_first(tables: &[Arc<Table>]) -> Result<Vec<Arc<Table>>, StateError> {
    for table in tables {
        check_reference(table, tables)?;
    }
    let mut rest = tables.to_vec();
    let mut ordered: Vec<Arc<Table>> = Vec::with_capacity(rest.len());
    while let Some(first) = rest.first() {
        let first = first.name.clone();
        let waiting: HashSet<String> = rest.iter().map(|table| table.name.clone()).collect();
        let waits = |table: &Arc<Table>| {
            let reference = table.options.references.as_ref();
            reference.is_some_and(|r| r.table != table.name && waiting.contains(&r.table))
        };
        let (later, ready): (Vec<_>, Vec<_>) = rest.into_iter().partition(waits);
        if ready.is_empty() {
            return Err(StateError::ReferenceCycle { table: first });
        }
        ordered.extend(ready);
        rest = later;
    }
    Ok(ordered)
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

/// How long rows that no result needs stay, which their next changes may need: one hour of the source's clock.
const UNREAD_KEPT: i64 = 3_600_000_000;

/// How long a table without ttl remembers that a key was deleted: one hour of the source's clock.
const DELETES_KEPT: i64 = 3_600_000_000;

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
