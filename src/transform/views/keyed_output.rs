//! From differences of a result to changes of its target, by key.

use std::sync::Arc;

use arrow::array::{ArrayRef, DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{Row, RowConverter, SortField};
use datafusion::error::Result;
use hashbrown::{HashMap, HashSet};

use crate::model::{ColumnSet, PriorRow};
use crate::transform::dataflow::{Delta, EpochState, EpochStep, UndoLog};

/// Changes of a keyed target.
#[derive(Debug)]
pub(crate) struct KeyedChanges {
    /// Rows that are new or different.
    pub(crate) upserts: RecordBatch,
    /// Per upserted row: what its target holds.
    pub(crate) held: Vec<PriorRow>,
    /// The keys that are gone.
    pub(crate) deletes: RecordBatch,
}

/// The keys of a result; each has one row at most.
#[derive(Debug)]
pub(crate) struct KeyedOutput {
    schema: SchemaRef,
    key_schema: SchemaRef,
    key: Vec<usize>,
    keys: RowConverter,
    rows: RowConverter,
    /// Keys whose rows were taken in as if the target held them, and may be others there: it was not told of
    /// what happened to other tables while ttl had them out of memory.
    doubted: HashSet<Box<[u8]>>,
    undo: UndoLog<DoubtChange>,
}

/// A key that is doubted from now on, or no longer.
#[derive(Debug)]
enum DoubtChange {
    Doubted(Box<[u8]>),
    Trusted(Box<[u8]>),
}

/// What a key lost and gained.
#[derive(Debug, Default)]
struct KeyChange {
    gained: Option<u32>,
    lost: Option<u32>,
}

/// A row to write, and the row that it replaces.
struct Upsert {
    row: u32,
    replaced: Option<u32>,
}

impl KeyedOutput {
    pub(crate) fn new(schema: &SchemaRef, key: &[usize]) -> Result<Self, ArrowError> {
        let sort_field = |at: usize| SortField::new(schema.field(at).data_type().clone());
        let key_fields: Vec<_> = key.iter().map(|at| schema.field(*at).clone()).collect();
        Ok(Self {
            schema: SchemaRef::clone(schema),
            key_schema: Arc::new(Schema::new(key_fields)),
            key: key.to_vec(),
            keys: RowConverter::new(key.iter().map(|at| sort_field(*at)).collect())?,
            rows: RowConverter::new((0..schema.fields().len()).map(sort_field).collect())?,
            doubted: HashSet::new(),
            undo: UndoLog::default(),
        })
    }

    pub(crate) fn clear(&mut self) {
        self.doubted.clear();
    }

    /// Rows that are new or different, and the keys that are gone. Rows that cancel out are neither.
    ///
    /// # Errors
    /// If a key gains two rows.
    pub(crate) fn changes(&mut self, delta: &Delta) -> Result<KeyedChanges, ArrowError> {
        let key_columns: Vec<ArrayRef> =
            self.key.iter().map(|at| Arc::clone(delta.rows.column(*at))).collect();
        let keys = self.keys.convert_columns(&key_columns)?;
        let mut by_key: HashMap<Row<'_>, KeyChange> = HashMap::new();
        for (row, weight) in self.net(delta)? {
            let change = by_key.entry(keys.row(row as usize)).or_default();
            if weight < 0 {
                change.lost = Some(row);
            } else if weight > 1 || change.gained.replace(row).is_some() {
                let what = "a key that its query makes sure of has two rows";
                return Err(ArrowError::ComputeError(what.to_owned()));
            }
        }
        let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
        for change in by_key.into_values() {
            match (change.gained, change.lost) {
                (Some(row), replaced) => upserts.push(Upsert { row, replaced }),
                (None, Some(row)) => deletes.push(row),
                (None, None) => {}
            }
        }
        // Neighbours in the target's index one after the other: a third less work for PostgreSQL.
        upserts.sort_unstable_by_key(|upsert| keys.row(upsert.row as usize));
        deletes.sort_unstable_by_key(|row| keys.row(*row as usize));
        let mut held = self.held(&delta.rows, &upserts)?;
        if !self.doubted.is_empty() {
            for (upsert, held) in upserts.iter().zip(&mut held) {
                if self.trust(keys.row(upsert.row as usize).as_ref()) {
                    *held = PriorRow::Unknown;
                }
            }
            for row in &deletes {
                self.trust(keys.row(*row as usize).as_ref());
            }
        }
        let upserts: Vec<u32> = upserts.iter().map(|upsert| upsert.row).collect();
        let upserts = take_record_batch(&delta.rows, &UInt32Array::from(upserts))?;
        let deletes =
            take_record_batch(&delta.rows, &UInt32Array::from(deletes))?.project(&self.key)?;
        Ok(KeyedChanges {
            upserts: upserts.with_schema(SchemaRef::clone(&self.schema))?,
            held,
            deletes: deletes.with_schema(SchemaRef::clone(&self.key_schema))?,
        })
    }

    /// The rows of a change that was not told to the target: what it holds under their keys is not known.
    pub(crate) fn doubt(&mut self, changes: &KeyedChanges) -> Result<(), ArrowError> {
        let key_columns: Vec<ArrayRef> =
            self.key.iter().map(|at| Arc::clone(changes.upserts.column(*at))).collect();
        let keys = self.keys.convert_columns(&key_columns)?;
        for key in &keys {
            if self.doubted.insert(key.as_ref().into()) {
                self.undo.note(|| DoubtChange::Doubted(key.as_ref().into()));
            }
        }
        Ok(())
    }

    /// Whether the row of a key was doubted until now.
    fn trust(&mut self, key: &[u8]) -> bool {
        let was_doubted = self.doubted.remove(key);
        if was_doubted {
            self.undo.note(|| DoubtChange::Trusted(key.into()));
        }
        was_doubted
    }

    /// What the target held before each of these rows, if it was told of all that happened.
    fn held(&self, rows: &RecordBatch, upserts: &[Upsert]) -> Result<Vec<PriorRow>, ArrowError> {
        let replacing: Vec<(usize, usize)> = upserts
            .iter()
            .filter_map(|upsert| Some((upsert.row as usize, upsert.replaced? as usize)))
            .collect();
        let mut changed = vec![ColumnSet::NONE; replacing.len()];
        let others = rows.columns().iter().enumerate().filter(|(at, _)| !self.key.contains(at));
        for (at, column) in others.filter(|_| !replacing.is_empty()) {
            let compare: DynComparator = make_comparator(column, column, SortOptions::default())?;
            for ((row, replaced), changed) in replacing.iter().zip(&mut changed) {
                if compare(*row, *replaced).is_ne() {
                    *changed = changed.with(at);
                }
            }
        }
        let mut changed = changed.into_iter();
        let of_row = |upsert: &Upsert| match upsert.replaced {
            None => PriorRow::Nothing,
            Some(_) => changed.next().map_or(PriorRow::Unknown, PriorRow::Other),
        };
        Ok(upserts.iter().map(of_row).collect())
    }

    /// Each row that does not cancel out, once, with its weight.
    fn net(&self, delta: &Delta) -> Result<Vec<(u32, i64)>, ArrowError> {
        let encoded = self.rows.convert_columns(delta.rows.columns())?;
        let mut at: HashMap<Row<'_>, usize> = HashMap::with_capacity(delta.weights.len());
        let mut net: Vec<(u32, i64)> = Vec::new();
        for (row, bytes) in encoded.iter().enumerate() {
            let place = *at.entry(bytes).or_insert_with(|| {
                net.push((row as u32, 0));
                net.len() - 1
            });
            net[place].1 += delta.weights[row];
        }
        net.retain(|(_, weight)| *weight != 0);
        Ok(net)
    }

    pub(crate) fn memory(&self) -> usize {
        const ENTRY: usize = 64;
        self.doubted.capacity() * ENTRY
    }
}

impl EpochState for KeyedOutput {
    fn step(&mut self, step: EpochStep) -> Result<()> {
        for change in self.undo.step(step) {
            match change {
                DoubtChange::Trusted(key) => drop(self.doubted.insert(key)),
                DoubtChange::Doubted(key) => drop(self.doubted.remove(&key)),
            }
        }
        Ok(())
    }
}
