//! Rows that are kept, because nothing else can give them again.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result;
use hashbrown::{HashMap, HashSet};

use super::delta::Delta;
use super::operator::Visit;
use super::operator_state::{ChangedKeys, EpochStep, OperatorState, UndoLog};
use super::rows::{self, EncodedRow};
use crate::model::{Found, Lookup, StateSpace, StateWrites};

/// Rows that are read from the disk at once.
const READ_AT_ONCE: usize = 8192;

/// How often each row is there, with indexes on some columns.
#[derive(Debug)]
pub(crate) struct Multiset {
    schema: SchemaRef,
    converter: RowConverter,
    rows: HashMap<EncodedRow, i64>,
    bytes: usize,
    indexes: Vec<RowIndex>,
    undo: UndoLog<Delta>,
    changed: ChangedKeys<EncodedRow>,
}

#[derive(Debug)]
struct RowIndex {
    columns: Vec<usize>,
    converter: RowConverter,
    rows: HashMap<Box<[u8]>, HashSet<EncodedRow>>,
}

impl RowIndex {
    fn keys(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        self.converter.convert_columns(&rows::columns(batch, &self.columns))
    }

    fn add(&mut self, key: &[u8], row: &EncodedRow) {
        self.rows.entry(key.into()).or_default().insert(EncodedRow::clone(row));
    }

    fn remove(&mut self, key: &[u8], row: &EncodedRow) {
        let is_empty = self.rows.get_mut(key).is_some_and(|found| {
            found.remove(row);
            found.is_empty()
        });
        if is_empty {
            self.rows.remove(key);
        }
    }
}

impl Multiset {
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        Ok(Self {
            schema: SchemaRef::clone(schema),
            converter: converter(schema, &all)?,
            rows: HashMap::new(),
            bytes: 0,
            indexes: Vec::new(),
            undo: UndoLog::default(),
            changed: ChangedKeys::default(),
        })
    }

    /// Keeps an index on some columns. Before the first row is added.
    pub(crate) fn add_index(&mut self, columns: &[usize]) -> Result<(), ArrowError> {
        let mut columns = columns.to_vec();
        columns.sort_unstable();
        if self.indexes.iter().all(|index| index.columns != columns) {
            let converter = converter(&self.schema, &columns)?;
            self.indexes.push(RowIndex { columns, converter, rows: HashMap::new() });
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.bytes = 0;
        self.indexes.iter_mut().for_each(|index| index.rows.clear());
    }

    pub(crate) fn apply(&mut self, delta: &Delta) -> Result<(), ArrowError> {
        let encoded = self.converter.convert_columns(delta.rows.columns())?;
        let keys = self
            .indexes
            .iter()
            .map(|index| index.keys(&delta.rows))
            .collect::<Result<Vec<_>, _>>()?;
        self.undo.note(|| delta.clone());
        for (at, weight) in delta.weights.iter().enumerate() {
            let row: EncodedRow = encoded.row(at).as_ref().into();
            self.changed.note(&row);
            let count = self.rows.entry(EncodedRow::clone(&row)).or_insert(0);
            let (had, has) = (*count != 0, *count + weight != 0);
            *count += weight;
            for (index, keys) in self.indexes.iter_mut().zip(&keys) {
                match (had, has) {
                    (false, true) => index.add(keys.row(at).as_ref(), &row),
                    (true, false) => index.remove(keys.row(at).as_ref(), &row),
                    (true, true) | (false, false) => {}
                }
            }
            if had != has {
                self.bytes = if has { self.bytes + row.len() } else { self.bytes - row.len() };
            }
            if !has {
                self.rows.remove(&row);
            }
        }
        Ok(())
    }

    /// Makes `batches` the rows, and tells the difference.
    pub(crate) fn replace(&mut self, batches: &[RecordBatch]) -> Result<Delta, ArrowError> {
        let mut weights: HashMap<EncodedRow, i64> =
            self.rows.iter().map(|(row, count)| (EncodedRow::clone(row), -count)).collect();
        for batch in batches {
            let encoded = self.converter.convert_columns(batch.columns())?;
            for row in &encoded {
                *weights.entry(row.as_ref().into()).or_insert(0) += 1;
            }
        }
        weights.retain(|_, weight| *weight != 0);
        let delta = Delta::new(self.decode(weights.keys())?, weights.values().copied().collect());
        self.apply(&delta)?;
        Ok(delta)
    }

    fn decode<'a>(
        &self,
        rows: impl Iterator<Item = &'a EncodedRow>,
    ) -> Result<RecordBatch, ArrowError> {
        let parser = self.converter.parser();
        let mut count = 0;
        let parsed = rows.map(|row| {
            count += 1;
            parser.parse(row)
        });
        let columns = self.converter.convert_rows(parsed)?;
        rows::batch(&self.schema, columns, count)
    }

    /// All rows, part by part.
    pub(crate) fn scan(&self, visit: Visit<'_>) -> Result<()> {
        let repeated = |(row, count): (&'_ EncodedRow, &i64)| {
            std::iter::repeat_n(EncodedRow::clone(row), usize::try_from(*count).unwrap_or(0))
        };
        let (mut part, mut bytes) = (Vec::new(), 0);
        for row in self.rows.iter().flat_map(repeated) {
            bytes += row.len();
            part.push(row);
            if bytes > rows::PART_BYTES {
                visit(self.decode(part.iter())?)?;
                (part, bytes) = (Vec::new(), 0);
            }
        }
        visit(self.decode(part.iter())?)
    }

    pub(crate) fn find(&self, lookup: Lookup<'_>) -> Result<Found, ArrowError> {
        let mut order: Vec<usize> = (0..lookup.columns.len()).collect();
        order.sort_unstable_by_key(|at| lookup.columns[*at]);
        let columns: Vec<usize> = order.iter().map(|at| lookup.columns[*at]).collect();
        let missing =
            || ArrowError::InvalidArgumentError(format!("rows are not indexed by {columns:?}"));
        let index =
            self.indexes.iter().find(|index| index.columns == columns).ok_or_else(missing)?;
        let typed = |at: &usize| {
            let data_type = self.schema.field(lookup.columns[*at]).data_type();
            arrow::compute::cast(&lookup.keys[*at], data_type)
        };
        let keys = order.iter().map(typed).collect::<Result<Vec<_>, _>>()?;
        let encoded = index.converter.convert_columns(&keys)?;
        let (mut found, mut key_of) = (Vec::new(), Vec::new());
        for (at, key) in encoded.iter().enumerate() {
            if !lookup.nulls_match && keys.iter().any(|column| column.is_null(at)) {
                continue;
            }
            for row in index.rows.get(key.as_ref()).into_iter().flatten() {
                for _ in 0..self.rows.get(row).copied().unwrap_or(0) {
                    found.push(row);
                    key_of.push(at as u32);
                }
            }
        }
        Ok(Found { rows: self.decode(found.into_iter())?, key_of })
    }

    pub(crate) fn memory(&self) -> usize {
        const MALLOC_AND_COUNTS: usize = 32;
        let row = size_of::<(EncodedRow, i64)>() + MALLOC_AND_COUNTS;
        self.bytes + self.rows.len() * (row + self.indexes.len() * row)
    }
}

impl OperatorState for Multiset {
    fn step(&mut self, step: EpochStep) -> Result<()> {
        let deltas = self.undo.step(step);
        deltas.into_iter().try_for_each(|delta| Ok(self.apply(&delta.negated())?))
    }

    fn open(&mut self, space: Arc<dyn StateSpace>, kept: Option<&[u64]>) -> Result<()> {
        self.clear();
        self.changed.open(space);
        if kept.is_none() {
            return Ok(());
        }
        let kept = std::mem::take(&mut self.changed);
        let (mut rows, mut weights): (Vec<EncodedRow>, Vec<i64>) = Default::default();
        kept.each(&mut |row, weight| {
            rows.push(row.into());
            weights.push(weight);
            if rows.len() < READ_AT_ONCE {
                return Ok(());
            }
            let part = self.decode(std::mem::take(&mut rows).iter())?;
            self.apply(&Delta::new(part, std::mem::take(&mut weights)))
        })?;
        self.apply(&Delta::new(self.decode(rows.iter())?, weights))?;
        self.changed = kept;
        Ok(())
    }

    fn flush(&mut self, writes: &mut dyn StateWrites) {
        let Self { changed, rows, .. } = self;
        changed.flush(writes, |row| rows.get(row).copied().unwrap_or(0));
    }

    fn note_flushed(&mut self, is_done: bool) {
        self.changed.note_flushed(is_done);
    }

    fn kept(&self) -> Option<(&Arc<dyn StateSpace>, Vec<u64>)> {
        Some((self.changed.space()?, Vec::new()))
    }

    fn changed_bytes(&self) -> usize {
        self.changed.bytes()
    }
}

fn converter(schema: &SchemaRef, columns: &[usize]) -> Result<RowConverter, ArrowError> {
    let field = |at: &usize| SortField::new(schema.field(*at).data_type().clone());
    RowConverter::new(columns.iter().map(field).collect())
}
