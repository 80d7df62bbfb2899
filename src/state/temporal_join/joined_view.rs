//! A view of a temporal join: the rows of the enriched table with the versions that they show.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, filter_record_batch, interleave, take};
use arrow::error::ArrowError;
use hashbrown::{HashMap, HashSet};

use super::version_chains::VersionChains;
use super::versions::Versions;
use crate::model::{EpochLog, Found, KeyBytes, Lookup, Position, TableDelta, TemporalJoin};
use crate::state::error::StateError;
use crate::state::store::{RowPlace, Slot, TableStore};

/// What a row of the enriched table shows.
#[derive(Debug, Clone)]
enum Match {
    Version(Slot),
    /// Nothing yet: the first version of `key` after the row's position.
    Waiting {
        key: KeyBytes,
        position: Position,
    },
}

/// The rows of an enriched table with what they show.
#[derive(Debug)]
pub(in crate::state) struct JoinedView {
    pub(in crate::state) join: Arc<TemporalJoin>,
    /// By the key of the enriched table. Rows that hold NULL for a key are not here.
    matches: HashMap<KeyBytes, Match>,
    /// By the key that they wait for: keys of the enriched table.
    waiting: HashMap<KeyBytes, HashSet<KeyBytes>>,
    versions: Versions,
    /// What epochs did to matches that may still be taken back, in its order.
    undo: EpochLog<Vec<MatchChange>>,
}

/// A match that came or went.
#[derive(Debug)]
enum MatchChange {
    Gone(KeyBytes, Match),
    New(KeyBytes),
    /// A row shows this version no longer. It counts as shown until the epoch is committed.
    Hidden(Slot),
}

/// Rows whose matches may change, and how.
#[derive(Default)]
struct Moves {
    /// The keys of the enriched rows, as columns.
    sources: Vec<RecordBatch>,
    rows: Vec<Move>,
}

struct Move {
    key: KeyBytes,
    source: (usize, usize),
    old: Option<Slot>,
    new: NewMatch,
}

enum NewMatch {
    None,
    Waiting { key: KeyBytes, position: Position },
    Version { from: Position, row: (usize, usize) },
}

impl JoinedView {
    pub(in crate::state) fn new(join: Arc<TemporalJoin>) -> Result<Self, StateError> {
        let versions = Versions::new(&join.looked_up)?;
        let (matches, waiting) = (HashMap::new(), HashMap::new());
        Ok(Self { join, matches, waiting, versions, undo: EpochLog::default() })
    }

    /// Follows changes of the enriched table and what `chains` tell of the looked-up one.
    pub(in crate::state) fn follow(
        &mut self,
        enriched: &TableStore,
        deltas: &[TableDelta],
        chains: &VersionChains<'_>,
    ) -> Result<TableDelta, StateError> {
        let failed = |source| enriched.error(source);
        let mut moves = Moves::default();
        for delta in deltas.iter().filter(|delta| delta.table == enriched.table().name) {
            self.take_out(enriched, &delta.deleted, &mut moves).map_err(failed)?;
            for rows in [&delta.after, &delta.inserted] {
                self.look_up(enriched, rows, chains, &mut moves).map_err(failed)?;
            }
        }
        self.fill(enriched, chains, &mut moves).map_err(failed)?;
        self.settle(moves, chains)
    }

    /// Rows that are gone.
    fn take_out(
        &mut self,
        enriched: &TableStore,
        rows: &RecordBatch,
        moves: &mut Moves,
    ) -> Result<(), ArrowError> {
        for (row, key) in enriched.encode(rows)?.iter().enumerate() {
            let key = KeyBytes::from(key.as_ref());
            let (old, source) = (self.unmatch(&key), (moves.sources.len(), row));
            moves.rows.push(Move { key, source, old, new: NewMatch::None });
        }
        moves.sources.push(rows.project(&enriched.table().key)?);
        Ok(())
    }

    /// Rows that changed.
    fn look_up(
        &mut self,
        enriched: &TableStore,
        rows: &RecordBatch,
        chains: &VersionChains<'_>,
        moves: &mut Moves,
    ) -> Result<(), ArrowError> {
        let columns = asked(&self.join, rows);
        let asked = chains.encode(&columns)?;
        for (row, key) in enriched.encode(rows)?.iter().enumerate() {
            let key = KeyBytes::from(key.as_ref());
            let is_null = columns.iter().any(|column| column.is_null(row));
            let new = match enriched.position(&key).filter(|_| !is_null) {
                None => NewMatch::None,
                Some(position) => {
                    let key = KeyBytes::from(asked.row(row).as_ref());
                    let seen = chains.seen(&key, position);
                    let seen = seen.and_then(|version| Some((version.position, version.row?)));
                    match seen {
                        Some((from, row)) => NewMatch::Version { from, row },
                        None => NewMatch::Waiting { key, position },
                    }
                }
            };
            let (old, source) = (self.unmatch(&key), (moves.sources.len(), row));
            moves.rows.push(Move { key, source, old, new });
        }
        moves.sources.push(rows.project(&enriched.table().key)?);
        Ok(())
    }

    /// Rows that waited for what has come.
    fn fill(
        &mut self,
        enriched: &TableStore,
        chains: &VersionChains<'_>,
        moves: &mut Moves,
    ) -> Result<(), ArrowError> {
        let mut places: Vec<RowPlace> = Vec::new();
        let source = moves.sources.len();
        for awaited in chains.keys() {
            for key in self.waiting.get(awaited).into_iter().flatten() {
                let Some(Match::Waiting { position, .. }) = self.matches.get(key) else { continue };
                let seen = chains.seen(awaited, *position);
                let seen = seen.and_then(|version| Some((version.position, version.row?)));
                let (Some((from, row)), Some(place)) = (seen, enriched.place_of(key)) else {
                    continue;
                };
                let (source, new) = ((source, places.len()), NewMatch::Version { from, row });
                moves.rows.push(Move { key: key.clone(), source, old: None, new });
                places.push(place);
            }
        }
        let filled = moves.rows.len() - places.len();
        for row in &moves.rows[filled..] {
            self.unmatch(&row.key);
        }
        moves.sources.push(enriched.rows_at(&places, &enriched.table().key)?);
        Ok(())
    }

    /// Forgets what a row shows; the version, if it had one, still counts as shown.
    fn unmatch(&mut self, key: &KeyBytes) -> Option<Slot> {
        let gone = self.matches.remove(key)?;
        if let Match::Waiting { key: awaited, .. } = &gone
            && let Some(waiting) = self.waiting.get_mut(awaited)
        {
            waiting.remove(key);
            if waiting.is_empty() {
                self.waiting.remove(awaited);
            }
        }
        let slot = match &gone {
            Match::Version(slot) => Some(*slot),
            Match::Waiting { .. } => None,
        };
        if let Some(undo) = self.undo.open() {
            undo.push(MatchChange::Gone(key.clone(), gone));
        }
        slot
    }

    fn add_match(&mut self, key: KeyBytes, shown: Match) {
        if let Match::Waiting { key: awaited, .. } = &shown {
            self.waiting.entry(awaited.clone()).or_default().insert(key.clone());
        }
        if let Some(undo) = self.undo.open() {
            undo.push(MatchChange::New(key.clone()));
        }
        self.matches.insert(key, shown);
    }

    /// From here on everything can be taken back.
    pub(in crate::state) fn begin_epoch(&mut self) {
        self.undo.begin(Vec::new());
    }

    /// All of the epoch is computed; it waits for its commit.
    pub(in crate::state) fn finish_epoch(&mut self) {
        self.undo.finish();
    }

    /// The oldest finished epoch stays for good.
    pub(in crate::state) fn commit_epoch(&mut self) -> Result<(), StateError> {
        let hidden = self.undo.commit().into_iter().flatten().filter_map(|change| match change {
            MatchChange::Hidden(slot) => Some(slot),
            MatchChange::Gone(..) | MatchChange::New(_) => None,
        });
        let hidden: Vec<Slot> = hidden.collect();
        self.versions.hide(&hidden).map_err(|source| self.failed(source))
    }

    /// Makes the view what it was when the newest epoch began.
    pub(in crate::state) fn abort_epoch(&mut self) -> Result<(), StateError> {
        let mut hidden = Vec::new();
        for change in self.undo.abort().into_iter().flatten().rev() {
            match change {
                MatchChange::Gone(key, shown) => self.add_match(key, shown),
                MatchChange::New(key) => hidden.extend(self.unmatch(&key)),
                MatchChange::Hidden(_) => {}
            }
        }
        self.versions.hide(&hidden).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: ArrowError) -> StateError {
        StateError::Arrow { table: self.join.view.name.clone(), source }
    }

    /// Matches the rows again, and returns how the view differs.
    fn settle(
        &mut self,
        moves: Moves,
        chains: &VersionChains<'_>,
    ) -> Result<TableDelta, StateError> {
        let versions = moves.rows.iter().filter_map(|row| match row.new {
            NewMatch::Version { from, row } => Some((from, row)),
            NewMatch::None | NewMatch::Waiting { .. } => None,
        });
        let (from, at): (Vec<Position>, Vec<(usize, usize)>) = versions.unzip();
        let rows = chains.rows(&at).map_err(|source| self.failed(source))?;
        let mut shown = self.versions.show(&rows, &from)?.into_iter();
        let (mut changes, mut hidden) = (ViewChanges::default(), Vec::new());
        for Move { key, source, old, new } in moves.rows {
            let new = match new {
                NewMatch::None => None,
                NewMatch::Waiting { key: awaited, position } => {
                    self.add_match(key, Match::Waiting { key: awaited, position });
                    None
                }
                NewMatch::Version { .. } => shown.next().inspect(|slot| {
                    self.add_match(key, Match::Version(*slot));
                }),
            };
            changes.note(source, old, new);
            hidden.extend(old);
        }
        let delta = self.delta(&moves.sources, changes).map_err(|source| self.failed(source))?;
        match self.undo.open() {
            Some(undo) => undo.extend(hidden.into_iter().map(MatchChange::Hidden)),
            None => self.versions.hide(&hidden).map_err(|source| self.failed(source))?,
        }
        Ok(delta)
    }

    fn delta(
        &self,
        sources: &[RecordBatch],
        changes: ViewChanges,
    ) -> Result<TableDelta, ArrowError> {
        let rows = |rows: &ViewRows| self.view_rows(sources, rows);
        Ok(TableDelta {
            table: self.join.view.name.clone(),
            before: rows(&changes.before)?,
            after: rows(&changes.after)?,
            inserted: rows(&changes.inserted)?,
            deleted: rows(&changes.deleted)?,
        })
    }

    /// Keys of the enriched table beside versions.
    fn view_rows(
        &self,
        sources: &[RecordBatch],
        rows: &ViewRows,
    ) -> Result<RecordBatch, ArrowError> {
        let schema = self.join.view.schema();
        if rows.keys.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        let key = |column: usize| {
            let sources: Vec<&dyn Array> =
                sources.iter().map(|source| source.column(column).as_ref()).collect();
            interleave(&sources, &rows.keys)
        };
        let keys = (0..self.join.view.key.len()).map(key).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<usize> = (0..self.join.looked_up.columns.len()).collect();
        let versions = self.versions.rows(&rows.slots, &all)?;
        RecordBatch::try_new(schema, [&keys, versions.columns()].concat())
    }

    /// Those of the keys that show a version.
    fn shown(&self, enriched: &TableStore, keys: &[ArrayRef]) -> Result<ShownVersions, ArrowError> {
        let (mut slots, mut key_of) = (Vec::new(), Vec::new());
        for (at, key) in enriched.encode_columns(keys)?.iter().enumerate() {
            if let Some(Match::Version(slot)) = self.matches.get(key.as_ref()) {
                slots.push(*slot);
                key_of.push(at as u32);
            }
        }
        Ok(ShownVersions { slots, key_of })
    }

    pub(in crate::state) fn find(
        &self,
        enriched: &TableStore,
        lookup: Lookup<'_>,
        projection: &[usize],
    ) -> Result<Found, ArrowError> {
        let view = &self.join.view;
        let schema = view.schema();
        let key = |at: &usize| {
            let asked = lookup.columns.iter().position(|column| column == at);
            let no_index = || {
                let (name, columns) = (&view.name, lookup.columns);
                ArrowError::InvalidArgumentError(format!("{name} has no index on {columns:?}"))
            };
            cast(&lookup.keys[asked.ok_or_else(no_index)?], schema.field(*at).data_type())
        };
        let keys = view.key.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let shown = self.shown(enriched, &keys)?;
        let rows = self.projected(&keys, &shown, projection)?;
        Ok(Found { rows, key_of: shown.key_of })
    }

    pub(in crate::state) fn scan(
        &self,
        enriched: &TableStore,
        visit: &mut dyn FnMut(RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<(), ArrowError> {
        let all: Vec<usize> = (0..self.join.view.columns.len()).collect();
        enriched.scan(&mut |rows| {
            let keys = rows.project(&enriched.table().key)?;
            visit(self.projected(keys.columns(), &self.shown(enriched, keys.columns())?, &all)?)
        })
    }

    fn projected(
        &self,
        keys: &[ArrayRef],
        shown: &ShownVersions,
        projection: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        let view = &self.join.view;
        let own = view.key.len();
        let of_version: Vec<usize> =
            projection.iter().filter(|at| **at >= own).map(|at| at - own).collect();
        let mut versions =
            self.versions.rows(&shown.slots, &of_version)?.columns().to_vec().into_iter();
        let at = UInt32Array::from(shown.key_of.clone());
        let column = |column: &usize| {
            if *column < own {
                return take(&keys[*column], &at, None);
            }
            versions.next().ok_or_else(|| ArrowError::ComputeError(view.name.clone()))
        };
        let columns = projection.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(shown.key_of.len()));
        let schema = Arc::new(view.schema().project(projection)?);
        RecordBatch::try_new_with_options(schema, columns, &options)
    }

    /// Rows that show a version, different versions, and bytes.
    pub(in crate::state) fn size(&self) -> (usize, usize, usize) {
        let matches = self.matches.capacity() * (size_of::<(KeyBytes, Match)>() + 1);
        let waiting: usize = self.waiting.values().map(HashSet::capacity).sum();
        let bytes = matches + waiting * (size_of::<KeyBytes>() + 1) + self.versions.memory();
        (self.matches.len(), self.versions.len(), bytes)
    }

    /// The keys that rows ask for and of which memory does not know what was at their time.
    pub(in crate::state) fn doubtful(
        &self,
        enriched: &TableStore,
        looked_up: &TableStore,
        rows: &RecordBatch,
        known: &mut HashSet<KeyBytes>,
    ) -> Result<RecordBatch, ArrowError> {
        let columns = asked(&self.join, rows);
        let asked = looked_up.encode_columns(&columns)?;
        let own = enriched.encode(rows)?;
        let is_doubtful = |row: usize| {
            let position = enriched.position(own.row(row).as_ref());
            let there = looked_up.position(asked.row(row).as_ref());
            let is_known = there.is_some() && there <= position;
            let is_null = columns.iter().any(|column| column.is_null(row));
            !is_known && !is_null && known.insert(asked.row(row).as_ref().into())
        };
        let is_doubtful: Vec<bool> = (0..rows.num_rows()).map(is_doubtful).collect();
        let keys = looked_up.schema().project(&looked_up.table().key)?;
        filter_record_batch(&RecordBatch::try_new(Arc::new(keys), columns)?, &is_doubtful.into())
    }
}

/// Keys that show a version: its slot, and where the key is among those that were asked for.
struct ShownVersions {
    slots: Vec<Slot>,
    key_of: Vec<u32>,
}

/// Some keys of the enriched table, and the versions beside them.
#[derive(Default)]
struct ViewRows {
    keys: Vec<(usize, usize)>,
    slots: Vec<Slot>,
}

/// How a view differs.
#[derive(Default)]
struct ViewChanges {
    before: ViewRows,
    after: ViewRows,
    inserted: ViewRows,
    deleted: ViewRows,
}

impl ViewChanges {
    fn note(&mut self, key: (usize, usize), old: Option<Slot>, new: Option<Slot>) {
        let push = |rows: &mut ViewRows, slot| {
            rows.keys.push(key);
            rows.slots.push(slot);
        };
        match (old, new) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) => {
                push(&mut self.before, old);
                push(&mut self.after, new);
            }
            (None, Some(new)) => push(&mut self.inserted, new),
            (Some(old), None) => push(&mut self.deleted, old),
            (None, None) => {}
        }
    }
}

/// The columns of enriched rows that hold the key of the looked-up table.
fn asked(join: &TemporalJoin, rows: &RecordBatch) -> Vec<ArrayRef> {
    join.columns.iter().map(|at| Arc::clone(rows.column(*at))).collect()
}
