//! Which rows of two sides have the same key.

use arrow::array::{Array, ArrayRef};
use arrow::error::ArrowError;
use arrow::row::{Row, RowConverter, Rows, SortField};
use hashbrown::HashMap;

/// Encodes the keys of a join, so that they can be compared across both sides.
#[derive(Debug)]
pub(crate) struct JoinKeys {
    converter: RowConverter,
    nulls_match: bool,
}

impl JoinKeys {
    pub(crate) fn new(keys: &[ArrayRef], nulls_match: bool) -> Result<Self, ArrowError> {
        let fields = keys.iter().map(|column| SortField::new(column.data_type().clone()));
        Ok(Self { converter: RowConverter::new(fields.collect())?, nulls_match })
    }

    fn encode(&self, keys: &[ArrayRef]) -> Result<Rows, ArrowError> {
        self.converter.convert_columns(keys)
    }

    fn can_match(&self, keys: &[ArrayRef], row: usize) -> bool {
        self.nulls_match || !keys.iter().any(|column| column.is_null(row))
    }

    /// Every pair of a left and a right row of one key.
    pub(crate) fn pairs(
        &self,
        left: &[ArrayRef],
        right: &[ArrayRef],
    ) -> Result<Vec<(u32, u32)>, ArrowError> {
        let (left_rows, right_rows) = (self.encode(left)?, self.encode(right)?);
        // The left rows of a key are a chain.
        let mut first: HashMap<Row<'_>, u32> = HashMap::with_capacity(left_rows.num_rows());
        let mut next: Vec<Option<u32>> = vec![None; left_rows.num_rows()];
        for row in (0..left_rows.num_rows()).rev().filter(|row| self.can_match(left, *row)) {
            next[row] = first.insert(left_rows.row(row), row as u32);
        }
        let mut pairs = Vec::new();
        for (row, key) in right_rows.iter().enumerate() {
            let first = first.get(&key).copied();
            let lefts = std::iter::successors(first, |left| next[*left as usize]);
            pairs.extend(lefts.map(|left| (left, row as u32)));
        }
        Ok(pairs)
    }

    /// Each key once: the row that has it first, and the sum of the weights of all rows that have it.
    /// Keys that can't match are left out.
    pub(crate) fn totals(
        &self,
        keys: &[ArrayRef],
        weights: &[i64],
    ) -> Result<Vec<(u32, i64)>, ArrowError> {
        let rows = self.encode(keys)?;
        let mut at: HashMap<Row<'_>, usize> = HashMap::with_capacity(weights.len());
        let mut totals: Vec<(u32, i64)> = Vec::new();
        for (row, key) in rows.iter().enumerate().filter(|(row, _)| self.can_match(keys, *row)) {
            let place = *at.entry(key).or_insert_with(|| {
                totals.push((row as u32, 0));
                totals.len() - 1
            });
            totals[place].1 += weights[row];
        }
        Ok(totals)
    }
}
