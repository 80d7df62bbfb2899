//! Point-in-time look-ups: which version of another table's row each row of an enriched table shows.
//!
//! A row shows the version that was current at the position of its own last change, else the first one
//! after it. So at a row's change its version is looked up once, in the current rows and what the
//! epoch has done to them; after that only rows without one have to be watched. Older versions
//! are kept as long as a row shows them. What memory does not know about the time before (after a
//! restart, and for rows that ttl had dropped) is asked of the landing table: [`super::StateStores::doubtful`].

mod chains;
mod stores;
mod versions;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{cast, filter_record_batch, interleave, take};
use arrow::error::ArrowError;
use hashbrown::{HashMap, HashSet};

use super::index::Slot;
use super::store::Place;
use super::{StateError, Store};
use crate::model::{Enrichment, Found, KeyBytes, Lookup, Position, TableDelta};
pub(super) use chains::Before;
use chains::Chains;
pub use stores::KeysOf;
use versions::Versions;

/// What a row of the enriched table shows.
#[derive(Debug, Clone)]
enum Pin {
    Version(Slot),
    /// Nothing yet: the first version of `key` after the row's position.
    Waiting {
        key: KeyBytes,
        position: Position,
    },
}

/// The rows of an enriched table with what they show.
#[derive(Debug)]
pub(super) struct Enriched {
    pub(super) enrichment: Arc<Enrichment>,
    /// By the key of the enriched table. Rows that hold NULL for a key are not here.
    pins: HashMap<KeyBytes, Pin>,
    /// By the key that they wait for: keys of the enriched table.
    waiting: HashMap<KeyBytes, HashSet<KeyBytes>>,
    versions: Versions,
}

/// Rows whose pins may change, and how.
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
    new: New,
}

enum New {
    None,
    Waiting { key: KeyBytes, position: Position },
    Version { from: Position, row: (usize, usize) },
}

/// The stores of the enriched table and of the looked-up one.
type Stores<'a> = (&'a Store, &'a Store);

impl Enriched {
    fn new(enrichment: Arc<Enrichment>) -> Result<Self, StateError> {
        let versions = Versions::new(&enrichment.looked_up)?;
        Ok(Self { enrichment, pins: HashMap::new(), waiting: HashMap::new(), versions })
    }

    fn follow(
        &mut self,
        stores: Stores<'_>,
        deltas: &[TableDelta],
        chains: &Chains<'_>,
    ) -> Result<TableDelta, StateError> {
        let failed = |source| stores.0.error(source);
        let mut moves = Moves::default();
        for delta in deltas.iter().filter(|delta| delta.table == stores.0.table.name) {
            self.take_out(stores, &delta.deleted, &mut moves).map_err(failed)?;
            for rows in [&delta.after, &delta.inserted] {
                self.look_up(stores, (rows, chains), &mut moves).map_err(failed)?;
            }
        }
        self.fill(stores, chains, &mut moves).map_err(failed)?;
        self.settle(moves, chains)
    }

    /// Rows that are gone.
    fn take_out(
        &mut self,
        (enriched, _): Stores<'_>,
        rows: &RecordBatch,
        moves: &mut Moves,
    ) -> Result<(), ArrowError> {
        for (row, key) in enriched.keys.encode(rows)?.iter().enumerate() {
            let key = KeyBytes::from(key.as_ref());
            let (old, source) = (self.unpin(&key), (moves.sources.len(), row));
            moves.rows.push(Move { key, source, old, new: New::None });
        }
        moves.sources.push(rows.project(&enriched.table.key)?);
        Ok(())
    }

    /// Rows that changed.
    fn look_up(
        &mut self,
        (enriched, looked_up): Stores<'_>,
        (rows, chains): (&RecordBatch, &Chains<'_>),
        moves: &mut Moves,
    ) -> Result<(), ArrowError> {
        let columns = asked(&self.enrichment, rows);
        let asked = looked_up.keys.encode_columns(&columns)?;
        for (row, key) in enriched.keys.encode(rows)?.iter().enumerate() {
            let key = KeyBytes::from(key.as_ref());
            let is_null = columns.iter().any(|column| column.is_null(row));
            let entry = enriched.entries.get(&key).filter(|_| !is_null);
            let new = match entry.map(|entry| entry.position) {
                None => New::None,
                Some(position) => {
                    let key = KeyBytes::from(asked.row(row).as_ref());
                    let seen = chains.seen(&key, position);
                    let seen = seen.and_then(|version| Some((version.position, version.row?)));
                    match seen {
                        Some((from, row)) => New::Version { from, row },
                        None => New::Waiting { key, position },
                    }
                }
            };
            let (old, source) = (self.unpin(&key), (moves.sources.len(), row));
            moves.rows.push(Move { key, source, old, new });
        }
        moves.sources.push(rows.project(&enriched.table.key)?);
        Ok(())
    }

    /// Rows that waited for what has come.
    fn fill(
        &mut self,
        (enriched, _): Stores<'_>,
        chains: &Chains<'_>,
        moves: &mut Moves,
    ) -> Result<(), ArrowError> {
        let mut places: Vec<Place> = Vec::new();
        let source = moves.sources.len();
        for awaited in chains.keys() {
            for key in self.waiting.get(awaited).into_iter().flatten() {
                let Some(Pin::Waiting { position, .. }) = self.pins.get(key) else { continue };
                let seen = chains.seen(awaited, *position);
                let seen = seen.and_then(|version| Some((version.position, version.row?)));
                let place = enriched.entries.get(key).and_then(|entry| enriched.place(entry));
                let (Some((from, row)), Some(place)) = (seen, place) else { continue };
                let (source, new) = ((source, places.len()), New::Version { from, row });
                moves.rows.push(Move { key: key.clone(), source, old: None, new });
                places.push(place);
            }
        }
        let filled = moves.rows.len() - places.len();
        for row in &moves.rows[filled..] {
            self.unpin(&row.key);
        }
        moves.sources.push(enriched.rows_at(&places, &enriched.table.key)?);
        Ok(())
    }

    /// Forgets what a row shows; the version, if it had one, still counts as shown.
    fn unpin(&mut self, key: &KeyBytes) -> Option<Slot> {
        match self.pins.remove(key)? {
            Pin::Version(slot) => Some(slot),
            Pin::Waiting { key: awaited, .. } => {
                if let Some(waiting) = self.waiting.get_mut(&awaited) {
                    waiting.remove(key);
                    if waiting.is_empty() {
                        self.waiting.remove(&awaited);
                    }
                }
                None
            }
        }
    }

    /// Pins the rows anew, and tells how the view differs.
    fn settle(&mut self, moves: Moves, chains: &Chains<'_>) -> Result<TableDelta, StateError> {
        let failed =
            |source| StateError::Arrow { table: self.enrichment.view.name.clone(), source };
        let versions = moves.rows.iter().filter_map(|row| match row.new {
            New::Version { from, row } => Some((from, row)),
            New::None | New::Waiting { .. } => None,
        });
        let (from, at): (Vec<Position>, Vec<(usize, usize)>) = versions.unzip();
        let rows = chains.rows(&at).map_err(failed)?;
        let mut shown = self.versions.show(&rows, &from)?.into_iter();
        let (mut changes, mut hidden) = (Changes::default(), Vec::new());
        for Move { key, source, old, new } in moves.rows {
            let new = match new {
                New::None => None,
                New::Waiting { key: awaited, position } => {
                    self.waiting.entry(awaited.clone()).or_default().insert(key.clone());
                    self.pins.insert(key, Pin::Waiting { key: awaited, position });
                    None
                }
                New::Version { .. } => shown.next().inspect(|slot| {
                    self.pins.insert(key, Pin::Version(*slot));
                }),
            };
            changes.note(source, (old, new));
            hidden.extend(old);
        }
        let delta = self.delta(&moves.sources, changes).map_err(failed)?;
        self.versions.hide(&hidden).map_err(failed)?;
        Ok(delta)
    }

    fn delta(&self, sources: &[RecordBatch], changes: Changes) -> Result<TableDelta, ArrowError> {
        let rows = |(at, slots): &Rows| self.view_rows(sources, at, slots);
        Ok(TableDelta {
            table: self.enrichment.view.name.clone(),
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
        at: &[(usize, usize)],
        slots: &[Slot],
    ) -> Result<RecordBatch, ArrowError> {
        let schema = self.enrichment.view.schema();
        if at.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        let key = |column: usize| {
            let sources: Vec<&dyn Array> =
                sources.iter().map(|source| source.column(column).as_ref()).collect();
            interleave(&sources, at)
        };
        let keys = (0..self.enrichment.view.key.len()).map(key).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<usize> = (0..self.enrichment.looked_up.columns.len()).collect();
        let versions = self.versions.rows(slots, &all)?;
        RecordBatch::try_new(schema, [&keys, versions.columns()].concat())
    }

    /// The slots of the keys that show a version, and where these keys are among `keys`.
    fn pinned(
        &self,
        enriched: &Store,
        keys: &[ArrayRef],
    ) -> Result<(Vec<Slot>, Vec<u32>), ArrowError> {
        let (mut slots, mut key_of) = (Vec::new(), Vec::new());
        for (at, key) in enriched.keys.encode_columns(keys)?.iter().enumerate() {
            if let Some(Pin::Version(slot)) = self.pins.get(key.as_ref()) {
                slots.push(*slot);
                key_of.push(at as u32);
            }
        }
        Ok((slots, key_of))
    }

    pub(super) fn find(
        &self,
        enriched: &Store,
        lookup: Lookup<'_>,
        projection: &[usize],
    ) -> Result<Found, ArrowError> {
        let view = &self.enrichment.view;
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
        let (slots, key_of) = self.pinned(enriched, &keys)?;
        let rows = self.projected((&keys, &key_of), &slots, projection)?;
        Ok(Found { rows, key_of })
    }

    pub(super) fn all(&self, enriched: &Store) -> Result<Vec<RecordBatch>, ArrowError> {
        let all: Vec<usize> = (0..self.enrichment.view.columns.len()).collect();
        let batch = |segment: &super::segment::Segment| {
            let keys = segment.snapshot()?.project(&enriched.table.key)?;
            let (slots, key_of) = self.pinned(enriched, keys.columns())?;
            self.projected((keys.columns(), &key_of), &slots, &all)
        };
        enriched.segments.iter().map(batch).collect()
    }

    fn projected(
        &self,
        (keys, key_of): (&[ArrayRef], &[u32]),
        slots: &[Slot],
        projection: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        let view = &self.enrichment.view;
        let own = view.key.len();
        let of_version: Vec<usize> =
            projection.iter().filter(|at| **at >= own).map(|at| at - own).collect();
        let mut versions = self.versions.rows(slots, &of_version)?.columns().to_vec().into_iter();
        let at = UInt32Array::from(key_of.to_vec());
        let column = |column: &usize| match *column < own {
            true => take(&keys[*column], &at, None),
            false => versions.next().ok_or_else(|| ArrowError::ComputeError(view.name.clone())),
        };
        let columns = projection.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(key_of.len()));
        let schema = Arc::new(view.schema().project(projection)?);
        RecordBatch::try_new_with_options(schema, columns, &options)
    }

    /// Rows that show a version, different versions, and bytes.
    pub(super) fn size(&self) -> (usize, usize, usize) {
        let pins = self.pins.capacity() * (size_of::<(KeyBytes, Pin)>() + 1);
        let waiting: usize = self.waiting.values().map(HashSet::capacity).sum();
        let bytes = pins + waiting * (size_of::<KeyBytes>() + 1) + self.versions.memory();
        (self.pins.len(), self.versions.len(), bytes)
    }

    /// The keys that rows ask for and of which memory does not know what was at their time.
    fn doubtful(
        &self,
        (enriched, looked_up): Stores<'_>,
        rows: &RecordBatch,
        known: &mut HashSet<KeyBytes>,
    ) -> Result<RecordBatch, ArrowError> {
        let columns = asked(&self.enrichment, rows);
        let asked = looked_up.keys.encode_columns(&columns)?;
        let own = enriched.keys.encode(rows)?;
        let is_doubtful = (0..rows.num_rows()).map(|row| {
            let position = enriched.entries.get(own.row(row).as_ref()).map(|e| e.position);
            let there = looked_up.entries.get(asked.row(row).as_ref()).map(|e| e.position);
            let is_known = there.is_some() && there <= position;
            let is_null = columns.iter().any(|column| column.is_null(row));
            !is_known && !is_null && known.insert(asked.row(row).as_ref().into())
        });
        let is_doubtful: Vec<bool> = is_doubtful.collect();
        let keys = looked_up.schema.project(&looked_up.table.key)?;
        filter_record_batch(&RecordBatch::try_new(Arc::new(keys), columns)?, &is_doubtful.into())
    }
}

/// Some keys of the enriched table, and the versions beside them.
type Rows = (Vec<(usize, usize)>, Vec<Slot>);

#[derive(Default)]
struct Changes {
    before: Rows,
    after: Rows,
    inserted: Rows,
    deleted: Rows,
}

impl Changes {
    fn note(&mut self, key: (usize, usize), change: (Option<Slot>, Option<Slot>)) {
        let push = |rows: &mut Rows, slot| {
            rows.0.push(key);
            rows.1.push(slot);
        };
        match change {
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
fn asked(enrichment: &Enrichment, rows: &RecordBatch) -> Vec<ArrayRef> {
    enrichment.columns.iter().map(|at| Arc::clone(rows.column(*at))).collect()
}
