//! From differences of a query to changes of its target, by key.

use std::sync::Arc;

use arrow::array::{ArrayRef, DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{Row, RowConverter, SortField};
use hashbrown::{HashMap, HashSet};

use crate::model::{ColumnSet, PriorRow};
use crate::transform::dataflow::Delta;

/// What is wrong with rows as rows of a keyed result.
#[derive(Debug)]
pub(crate) enum KeyError {
    Duplicate { key: String },
    Null { column: String },
    Arrow { source: ArrowError },
}

impl From<ArrowError> for KeyError {
    fn from(source: ArrowError) -> Self {
        Self::Arrow { source }
    }
}

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

/// The keys of a result, and how many rows each one has.
#[derive(Debug)]
pub(crate) struct KeyedOutput {
    schema: SchemaRef,
    key_schema: SchemaRef,
    key: Vec<usize>,
    keys: RowConverter,
    rows: RowConverter,
    /// `None`: the query itself makes sure that no key comes twice.
    counts: Option<HashMap<Box<[u8]>, i64>>,
    /// Keys whose rows were taken in as if the target held them, and may be others there: it was not told of
    /// what happened to other tables while ttl had them out of memory.
    doubted: HashSet<Box<[u8]>>,
}

/// What a key lost and gained.
#[derive(Debug, Default)]
struct KeyChange {
    gained: Option<u32>,
    lost: Option<u32>,
    total: i64,
}

/// A row to write, and the row that it replaces.
struct Upsert {
    row: u32,
    replaced: Option<u32>,
}

impl KeyedOutput {
    pub(crate) fn new(
        schema: &SchemaRef,
        key: &[usize],
        is_proven_unique: bool,
    ) -> Result<Self, ArrowError> {
        let sort_field = |at: usize| SortField::new(schema.field(at).data_type().clone());
        let key_fields: Vec<_> = key.iter().map(|at| schema.field(*at).clone()).collect();
        Ok(Self {
            schema: SchemaRef::clone(schema),
            key_schema: Arc::new(Schema::new(key_fields)),
            key: key.to_vec(),
            keys: RowConverter::new(key.iter().map(|at| sort_field(*at)).collect())?,
            rows: RowConverter::new((0..schema.fields().len()).map(sort_field).collect())?,
            counts: (!is_proven_unique).then(HashMap::new),
            doubted: HashSet::new(),
        })
    }

    pub(crate) fn needs_rows(&self) -> bool {
        self.counts.is_some()
    }

    pub(crate) fn clear(&mut self) {
        self.counts.iter_mut().for_each(HashMap::clear);
        self.doubted.clear();
    }

    /// Rows that are new or different, and the keys that are gone. Rows that cancel out are neither.
    pub(crate) fn changes(&mut self, delta: &Delta) -> Result<KeyedChanges, KeyError> {
        let key_columns: Vec<ArrayRef> =
            self.key.iter().map(|at| Arc::clone(delta.rows.column(*at))).collect();
        let keys = self.keys.convert_columns(&key_columns)?;
        let mut by_key: HashMap<Row<'_>, KeyChange> = HashMap::new();
        for (row, weight) in self.net(delta)? {
            let change = by_key.entry(keys.row(row as usize)).or_default();
            change.total += weight;
            if weight < 0 {
                change.lost = Some(row);
            } else if weight > 1 || change.gained.replace(row).is_some() {
                return Err(KeyError::Duplicate { key: describe(&key_columns, row as usize) });
            }
        }
        let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
        for (key, change) in by_key {
            let Some(row) = change.gained.or(change.lost) else { continue };
            let left = self.count(key.as_ref(), change.total);
            if left.is_some_and(|left| left > 1) {
                return Err(KeyError::Duplicate { key: describe(&key_columns, row as usize) });
            }
            match change.gained {
                Some(row) => upserts.push(Upsert { row, replaced: change.lost }),
                None if left.is_none_or(|left| left == 0) => deletes.push(row),
                None => {}
            }
        }
        // Neighbours in the target's index one after the other: a third less work for PostgreSQL.
        upserts.sort_unstable_by_key(|upsert| keys.row(upsert.row as usize));
        deletes.sort_unstable_by_key(|row| keys.row(*row as usize));
        let mut held = self.held(&delta.rows, &upserts)?;
        if !self.doubted.is_empty() {
            for (upsert, held) in upserts.iter().zip(&mut held) {
                if self.doubted.remove(keys.row(upsert.row as usize).as_ref()) {
                    *held = PriorRow::Unknown;
                }
            }
            for row in &deletes {
                self.doubted.remove(keys.row(*row as usize).as_ref());
            }
        }
        let upserts: Vec<u32> = upserts.iter().map(|upsert| upsert.row).collect();
        self.refuse_nulls(&key_columns, &upserts)?;
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
    pub(crate) fn doubt(&mut self, changes: &KeyedChanges) -> Result<(), KeyError> {
        let key_columns: Vec<ArrayRef> =
            self.key.iter().map(|at| Arc::clone(changes.upserts.column(*at))).collect();
        let keys = self.keys.convert_columns(&key_columns)?;
        self.doubted.extend(keys.iter().map(|key| Box::from(key.as_ref())));
        Ok(())
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

    /// How many rows a key has after it gained and lost some, if that is counted.
    fn count(&mut self, key: &[u8], total: i64) -> Option<i64> {
        let counts = self.counts.as_mut()?;
        let count = counts.entry(key.into()).or_insert(0);
        *count += total;
        let count = *count;
        if count == 0 {
            counts.remove(key);
        }
        Some(count)
    }

    fn refuse_nulls(&self, key_columns: &[ArrayRef], rows: &[u32]) -> Result<(), KeyError> {
        for (column, field) in key_columns.iter().zip(self.key_schema.fields()) {
            let nulls = column.logical_nulls();
            if let Some(nulls) = nulls
                && rows.iter().any(|row| nulls.is_null(*row as usize))
            {
                return Err(KeyError::Null { column: field.name().clone() });
            }
        }
        Ok(())
    }

    pub(crate) fn memory(&self) -> usize {
        const ENTRY: usize = 64;
        let counted = self.counts.as_ref().map_or(0, HashMap::capacity);
        (counted + self.doubted.capacity()) * ENTRY
    }
}

fn describe(key: &[ArrayRef], row: usize) -> String {
    let show = |column: &ArrayRef| {
        arrow::util::display::array_value_to_string(column, row).unwrap_or_else(|_| "?".to_owned())
    };
    key.iter().map(show).collect::<Vec<_>>().join(", ")
}
