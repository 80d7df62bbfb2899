//! From differences of a result to changes of its target, by key.

use std::sync::Arc;

use arrow::array::{ArrayRef, DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{Row, RowConverter, SortField};
use hashbrown::HashMap;

use crate::model::{ColumnSet, PriorRow};
use crate::transform::dataflow::Delta;

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
        })
    }

    /// Rows that are new or different, and the keys that are gone. Rows that cancel out are neither.
    ///
    /// # Errors
    /// If a key gains two rows.
    pub(crate) fn changes(&self, delta: &Delta) -> Result<KeyedChanges, ArrowError> {
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
        let held = self.held(&delta.rows, &upserts)?;
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

    /// What the target held before each of these rows.
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
}
