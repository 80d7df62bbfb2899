//! Which rows of a query its result shows: one for each key, and none whose key is not whole.
//!
//! A row with a NULL in its key is left out. Of several rows with one key the smallest stays, comparing column after
//! column in the order of the SELECT, with NULL before every value. That depends on the rows alone: not on which came
//! first, on batch borders or on restarts. So the next smallest appears when the one that stays goes or changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{Row, RowConverter, Rows, SortField};
use datafusion::error::Result;
use hashbrown::{HashMap, HashSet};

use super::left_out::LeftOut;
use crate::model::{Found, StateSpace, StateWrites};
use crate::transform::dataflow::{
    Delta, EncodedRow, EpochStep, KeyedState, OperatorState, StateValue, UndoLog, batch, take_rows,
};

/// Whether a query may give several rows with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Its plan proves that no key comes twice.
    ProvenUnique,
    Unproven,
}

/// What a result shows of the rows of its query.
#[derive(Debug)]
pub(crate) struct KeyRule {
    schema: SchemaRef,
    key: Vec<usize>,
    keys: RowConverter,
    rows: RowConverter,
    /// The rows of each key, so that it is known what is to appear when one goes. `None`: no key comes twice.
    held: Option<KeyedState<KeyRows>>,
    /// How many keys have several rows.
    contested: usize,
    undo: UndoLog<Delta>,
}

/// The rows of a key.
#[derive(Debug)]
enum KeyRows {
    One(EncodedRow),
    /// How often each is there, smallest first.
    Several(BTreeMap<EncodedRow, i64>),
}

/// Rows that one key has several times, as far as they have been shown.
pub(crate) type Seen = HashSet<(u32, EncodedRow)>;

/// What became of a difference of the query.
#[derive(Debug)]
pub(crate) struct Ruled {
    /// The difference of the result: of each key one row at most comes, and one goes.
    pub(crate) delta: Delta,
    /// Rows that are left out from now on.
    pub(crate) left_out: LeftOut,
}

/// Rows of a difference that are put together from bytes.
#[derive(Debug, Default)]
struct Gathered {
    rows: Vec<EncodedRow>,
    weights: Vec<i64>,
}

impl Gathered {
    fn add(&mut self, row: EncodedRow, weight: i64) {
        self.rows.push(row);
        self.weights.push(weight);
    }
}

impl KeyRows {
    fn from(rows: BTreeMap<EncodedRow, i64>) -> Option<Self> {
        match rows.first_key_value() {
            None => None,
            Some((row, 1)) if rows.len() == 1 => Some(Self::One(EncodedRow::clone(row))),
            Some(_) => Some(Self::Several(rows)),
        }
    }

    fn into_rows(self) -> BTreeMap<EncodedRow, i64> {
        match self {
            Self::One(row) => BTreeMap::from([(row, 1)]),
            Self::Several(rows) => rows,
        }
    }

    /// The row that stays.
    fn smallest(&self) -> Option<&EncodedRow> {
        match self {
            Self::One(row) => Some(row),
            Self::Several(rows) => smallest(rows),
        }
    }
}

/// The row of a key that stays.
fn smallest(rows: &BTreeMap<EncodedRow, i64>) -> Option<&EncodedRow> {
    rows.iter().find(|(_, count)| **count > 0).map(|(row, _)| row)
}

/// How many of these rows are left out; the smallest stays.
fn left_out(rows: &BTreeMap<EncodedRow, i64>, row: &EncodedRow) -> i64 {
    let count = rows.get(row).copied().unwrap_or(0).max(0);
    if smallest(rows) == Some(row) { count - 1 } else { count }
}

impl KeyRule {
    pub(crate) fn new(schema: &SchemaRef, key: &[usize], keys: Keys) -> Result<Self, ArrowError> {
        let sort_field = |at: usize| SortField::new(schema.field(at).data_type().clone());
        Ok(Self {
            schema: SchemaRef::clone(schema),
            key: key.to_vec(),
            keys: RowConverter::new(key.iter().map(|at| sort_field(*at)).collect())?,
            rows: RowConverter::new((0..schema.fields().len()).map(sort_field).collect())?,
            held: (keys == Keys::Unproven).then(KeyedState::default),
            contested: 0,
            undo: UndoLog::default(),
        })
    }

    /// Whether it has to be shown all rows of its query before the first difference.
    pub(crate) fn needs_rows(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn clear(&mut self) {
        self.held.iter_mut().for_each(KeyedState::clear);
        self.contested = 0;
    }

    /// Takes in how the rows of the query differ.
    ///
    /// # Errors
    /// If Arrow can't process the rows, or the disk can't be read.
    pub(crate) fn apply(&mut self, delta: &Delta) -> Result<Ruled, ArrowError> {
        let mut left_out = LeftOut::default();
        let has_nulls = self.key.iter().any(|at| delta.rows.column(*at).null_count() > 0);
        let whole = if !has_nulls {
            delta.clone()
        } else {
            let is_whole = has_no_null(&self.key_columns(&delta.rows), delta.rows.num_rows());
            let broken = delta.filter(&arrow::compute::not(&is_whole)?)?;
            self.note_null_keys(&broken, &mut left_out)?;
            delta.filter(&is_whole)?
        };
        let delta = match self.held {
            Some(_) if !whole.is_empty() => {
                let ruled = self.rule(&whole, &mut left_out)?;
                self.undo.note(|| whole);
                ruled
            }
            _ => whole,
        };
        Ok(Ruled { delta, left_out })
    }

    fn note_null_keys(&self, broken: &Delta, left_out: &mut LeftOut) -> Result<(), ArrowError> {
        let encoded = self.rows.convert_columns(broken.rows.columns())?;
        let mut net: HashMap<Row<'_>, (u32, i64)> = HashMap::new();
        for (at, row) in encoded.iter().enumerate() {
            net.entry(row).or_insert((at as u32, 0)).1 += broken.weights[at];
        }
        let mut new: Vec<(u32, i64)> =
            net.into_values().filter(|(_, weight)| *weight > 0).collect();
        new.sort_unstable();
        let count = new.iter().map(|(_, weight)| weight.unsigned_abs()).sum();
        new.truncate(LeftOut::MOST_ROWS);
        let at: UInt32Array = new.iter().map(|(row, _)| *row).collect();
        left_out.add_null_keys(take_rows(&broken.rows, &at)?, count);
        Ok(())
    }

    /// Brings the rows of each key up to date; the difference that the smallest ones make.
    fn rule(&mut self, delta: &Delta, left_out: &mut LeftOut) -> Result<Delta, ArrowError> {
        let keys = self.keys.convert_columns(&self.key_columns(&delta.rows))?;
        let encoded = self.rows.convert_columns(delta.rows.columns())?;
        if let Some(held) = &mut self.held {
            held.recall(keys.iter().map(|key| key.data()))?;
        }
        let mut by_key: BTreeMap<Row<'_>, BTreeMap<Row<'_>, i64>> = BTreeMap::new();
        for (at, weight) in delta.weights.iter().enumerate() {
            *by_key.entry(keys.row(at)).or_default().entry(encoded.row(at)).or_insert(0) += weight;
        }
        let (mut shown, mut twins) = (Gathered::default(), Gathered::default());
        let mut count = 0;
        for (key, mut changes) in by_key {
            changes.retain(|_, weight| *weight != 0);
            if !changes.is_empty() {
                count += self.change_key(key, changes, &mut shown, &mut twins);
            }
        }
        left_out.add_duplicates(self.decode(&twins.rows)?, count);
        Ok(Delta::new(self.decode(&shown.rows)?, shown.weights))
    }

    /// How many rows of the key are newly left out; some of them go to `twins`.
    fn change_key(
        &mut self,
        key: Row<'_>,
        changes: BTreeMap<Row<'_>, i64>,
        shown: &mut Gathered,
        twins: &mut Gathered,
    ) -> u64 {
        let Some(held) = &mut self.held else { return 0 };
        let known = held.remove(key.as_ref());
        self.contested -= usize::from(known.as_ref().is_some_and(has_twins));
        let before = known.as_ref().and_then(KeyRows::smallest).cloned();
        let mut rows = known.map(KeyRows::into_rows).unwrap_or_default();
        let change = |(row, weight): (Row<'_>, i64)| (EncodedRow::from(row.as_ref()), weight);
        let changes: Vec<(EncodedRow, i64)> = changes.into_iter().map(change).collect();
        let was_left_out =
            |(row, _): &(EncodedRow, i64)| (EncodedRow::clone(row), left_out(&rows, row));
        let mut touched: Vec<(EncodedRow, i64)> = changes.iter().map(was_left_out).collect();
        // The row that stayed so far does so no longer if a smaller one comes.
        if let Some(row) = before.iter().find(|row| touched.iter().all(|(other, _)| other != *row))
        {
            touched.push((EncodedRow::clone(row), 0));
        }
        for (row, weight) in changes {
            let count = rows.entry(EncodedRow::clone(&row)).or_insert(0);
            *count += weight;
            if *count == 0 {
                rows.remove(&row);
            }
        }
        let after = smallest(&rows).cloned();
        let mut count = 0;
        for (row, was_left_out) in touched {
            let more = left_out(&rows, &row) - was_left_out.max(0);
            if more > 0 {
                count += more.unsigned_abs();
                if twins.rows.len() < LeftOut::MOST_ROWS {
                    twins.add(row, 1);
                }
            }
        }
        if let Some(rows) = KeyRows::from(rows) {
            self.contested += usize::from(has_twins(&rows));
            held.insert(key.as_ref(), rows);
        }
        if before != after {
            before.into_iter().for_each(|row| shown.add(row, -1));
            after.into_iter().for_each(|row| shown.add(row, 1));
        }
        count
    }

    fn decode(&self, rows: &[EncodedRow]) -> Result<RecordBatch, ArrowError> {
        let parser = self.rows.parser();
        let columns = self.rows.convert_rows(rows.iter().map(|row| parser.parse(row)))?;
        batch(&self.schema, columns, rows.len())
    }

    /// Those of the query's rows that the result shows, of one part of all of them; `seen` is of the parts before.
    pub(crate) fn shown(
        &self,
        rows: RecordBatch,
        seen: &mut Seen,
    ) -> Result<RecordBatch, ArrowError> {
        if self.is_shown_whole(&rows) {
            return Ok(rows);
        }
        let is_shown = self.are_shown(&rows, |_| 0, seen)?;
        if is_shown.true_count() == is_shown.len() {
            return Ok(rows);
        }
        filter_record_batch(&rows, &is_shown)
    }

    /// Those of the found rows that the result shows.
    pub(crate) fn found(&self, found: Found) -> Result<Found, ArrowError> {
        if self.is_shown_whole(&found.rows) {
            return Ok(found);
        }
        let is_shown =
            self.are_shown(&found.rows, |row| found.key_of[row], &mut Seen::default())?;
        if is_shown.true_count() == is_shown.len() {
            return Ok(found);
        }
        let rows = filter_record_batch(&found.rows, &is_shown)?;
        let kept = found.key_of.iter().zip(is_shown.values().iter());
        Ok(Found { rows, key_of: kept.filter(|(_, kept)| *kept).map(|(key, _)| *key).collect() })
    }

    /// Adds the rows that the result does not show, of one part of all rows of the query.
    pub(crate) fn add_left_out(
        &self,
        rows: &RecordBatch,
        seen: &mut Seen,
        left_out: &mut LeftOut,
    ) -> Result<(), ArrowError> {
        let is_whole = has_no_null(&self.key_columns(rows), rows.num_rows());
        let some = |mask: &BooleanArray| {
            let at = mask.values().set_indices().take(LeftOut::MOST_ROWS).map(|at| at as u32);
            take_rows(rows, &at.collect())
        };
        let is_broken = arrow::compute::not(&is_whole)?;
        left_out.add_null_keys(some(&is_broken)?, is_broken.true_count() as u64);
        let is_shown = self.are_shown(rows, |_| 0, seen)?;
        let is_twin = arrow::compute::and(&is_whole, &arrow::compute::not(&is_shown)?)?;
        left_out.add_duplicates(some(&is_twin)?, is_twin.true_count() as u64);
        Ok(())
    }

    /// `group_of` says which rows were looked up together: each of them may be there once, `seen` ones included.
    fn are_shown(
        &self,
        rows: &RecordBatch,
        group_of: impl Fn(usize) -> u32,
        seen: &mut Seen,
    ) -> Result<BooleanArray, ArrowError> {
        let key_columns = self.key_columns(rows);
        let is_whole = has_no_null(&key_columns, rows.num_rows());
        let Some(held) = self.held.as_ref().filter(|_| self.contested > 0) else {
            return Ok(is_whole);
        };
        let keys = self.keys.convert_columns(&key_columns)?;
        let encoded: Rows = self.rows.convert_columns(rows.columns())?;
        let mut is_shown = |row: usize| {
            let of_key = held.find(keys.row(row).as_ref())?.filter(|rows| has_twins(rows));
            let Some(smallest) = of_key.as_ref().and_then(|rows| rows.smallest()) else {
                return Ok(true);
            };
            let encoded = encoded.row(row);
            Ok::<bool, ArrowError>(
                encoded.as_ref() == &**smallest
                    && seen.insert((group_of(row), EncodedRow::clone(smallest))),
            )
        };
        let are = (0..rows.num_rows()).map(|row| Ok(is_whole.value(row) && is_shown(row)?));
        are.map(|is_shown| is_shown.map(Some)).collect()
    }

    /// Whether it is plain that no row is left out.
    fn is_shown_whole(&self, rows: &RecordBatch) -> bool {
        self.contested == 0 && self.key.iter().all(|at| rows.column(*at).null_count() == 0)
    }

    fn key_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.key.iter().map(|at| ArrayRef::clone(rows.column(*at))).collect()
    }

    pub(crate) fn memory(&self) -> usize {
        self.held.as_ref().map_or(0, KeyedState::memory)
    }

    /// Its state, if it keeps any.
    pub(crate) fn state(&mut self) -> Option<&mut dyn OperatorState> {
        self.held.is_some().then_some(self as &mut dyn OperatorState)
    }
}

impl StateValue for KeyRows {
    fn write(&self, bytes: &mut Vec<u8>) {
        let mut write = |row: &EncodedRow, count: i64| {
            bytes.extend(count.to_be_bytes());
            bytes.extend((row.len() as u64).to_be_bytes());
            bytes.extend(&**row);
        };
        match self {
            Self::One(row) => write(row, 1),
            Self::Several(rows) => rows.iter().for_each(|(row, count)| write(row, *count)),
        }
    }

    fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut rows = BTreeMap::new();
        while !bytes.is_empty() {
            let (count, rest) = bytes.split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
            let (row, rest) = rest.split_at_checked(length)?;
            rows.insert(row.into(), i64::from_be_bytes(*count));
            bytes = rest;
        }
        Self::from(rows)
    }

    fn memory(&self) -> usize {
        const ENTRY: usize = 48;
        match self {
            Self::One(row) => row.len() + 16,
            Self::Several(rows) => rows.keys().map(|row| row.len() + ENTRY).sum(),
        }
    }
}

impl OperatorState for KeyRule {
    fn step(&mut self, step: EpochStep) -> Result<()> {
        for delta in self.undo.step(step) {
            self.rule(&delta.negated(), &mut LeftOut::default())?;
        }
        Ok(())
    }

    fn open(&mut self, space: Arc<dyn StateSpace>, kept: Option<&[u64]>) -> Result<()> {
        self.contested = kept.and_then(|counts| counts.get(1).copied()).unwrap_or(0) as usize;
        if let Some(held) = &mut self.held {
            held.open(space, kept.and_then(|counts| counts.first().copied()));
        }
        Ok(())
    }

    fn flush(&mut self, writes: &mut dyn StateWrites) {
        self.held.iter_mut().for_each(|held| held.flush(writes));
    }

    fn note_flushed(&mut self, is_done: bool) {
        self.held.iter_mut().for_each(|held| held.note_flushed(is_done));
    }

    fn kept(&self) -> Option<(&Arc<dyn StateSpace>, Vec<u64>)> {
        let held = self.held.as_ref()?;
        Some((held.space()?, vec![held.stored(), self.contested as u64]))
    }

    fn let_go(&mut self, bytes: usize) -> usize {
        self.held.as_mut().map_or(0, |held| held.let_go(bytes))
    }

    fn may_leave(&self) -> usize {
        self.memory()
    }

    fn changed_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, KeyedState::changed_bytes)
    }
}

fn has_twins(rows: &KeyRows) -> bool {
    matches!(rows, KeyRows::Several(_))
}

/// The rows in which no key column is NULL.
fn has_no_null(key_columns: &[ArrayRef], rows: usize) -> BooleanArray {
    let nulls: Vec<_> = key_columns.iter().filter_map(|column| column.logical_nulls()).collect();
    let is_valid = |row: usize| nulls.iter().all(|nulls| nulls.is_valid(row));
    (0..rows).map(|row| Some(is_valid(row))).collect()
}

#[cfg(test)]
mod tests;
