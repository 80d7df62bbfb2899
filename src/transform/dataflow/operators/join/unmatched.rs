//! Left rows without a match, and how they change.
//!
//! With n(l) the number of l's matches, l is there `[n(l) = 0]` times, and so it changes by
//! `[n(l) = 0 now] - [n(l) = 0 before]`. For a left row that changed, its matches of now decide. A left row
//! that did not change counts only if the number of its matches went from none to some or back; these are
//! among the rows with the keys of the right rows that changed.

use arrow::array::{RecordBatch, UInt32Array};
use datafusion::error::Result;

use super::Join;
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::operator::EvalContext;
use crate::transform::dataflow::rows::take_rows;

/// How a left row changes when the number of its matches goes from one to another.
fn flip(before: i64, now: i64) -> i64 {
    i64::from(now == 0) - i64::from(before == 0)
}

impl Join {
    /// How many matches each row of `left` has now.
    pub(crate) fn match_counts(
        &self,
        left: &RecordBatch,
        context: &EvalContext<'_>,
    ) -> Result<Vec<i64>> {
        if self.on.residual.is_none() && !self.on.left.is_empty() {
            let keys = self.left_keys(left);
            let counts = self.right.count(self.lookup(&self.on.right, &keys), context)?;
            return Ok(counts.into_iter().map(|count| count as i64).collect());
        }
        let mut counts = vec![0; left.num_rows()];
        for row in self.matches(left, &self.partners(left, context)?)?.key_of {
            counts[row as usize] += 1;
        }
        Ok(counts)
    }

    pub(crate) fn advance_unmatched(
        &self,
        left: &Delta,
        right: &Delta,
        context: &EvalContext<'_>,
    ) -> Result<Delta> {
        let mut parts = Vec::new();
        if !left.is_empty() {
            let counts = self.match_counts(&left.rows, context)?;
            let alone = (0..counts.len()).filter(|row| counts[*row] == 0);
            let alone: Vec<_> = alone.map(|row| (row as u32, left.weights[row])).collect();
            parts.push(left.take(&alone)?);
        }
        if !right.is_empty() {
            let stayed = self.stayed(left, right, context)?;
            if !stayed.is_empty() {
                parts.push(self.flipped(&stayed, right, context)?);
            }
        }
        Ok(Delta::sum(self.left.schema(), parts)?)
    }

    /// The left rows from before the epoch that have a key of a right row that changed, as far as their
    /// matches may have come or gone.
    fn stayed(&self, left: &Delta, right: &Delta, context: &EvalContext<'_>) -> Result<Delta> {
        let right = if self.on.left.is_empty() {
            // All left rows have the one key.
            right.rows.slice(0, 1)
        } else {
            self.flipping_keys(right, context)?
        };
        if right.num_rows() == 0 {
            return Ok(Delta::empty(self.left.schema()));
        }
        let now = self.left_partners(&right, context)?;
        let mut parts = vec![Delta::of(now.rows, 1)];
        if !left.is_empty() {
            let keys = self.right_keys(&right)?;
            let picked = if self.on.left.is_empty() {
                (0..left.weights.len() as u32).map(|row| (row, 0)).collect()
            } else {
                self.keys.pairs(&self.left_keys(&left.rows), &keys)?
            };
            let picked: Vec<(u32, i64)> =
                picked.iter().map(|(row, _)| (*row, -left.weights[*row as usize])).collect();
            parts.push(left.take(&picked)?);
        }
        Ok(Delta::sum(self.left.schema(), parts)?)
    }

    /// One right row for each key whose number of rows went from none to some or back; each key if
    /// there is more to a match than the key.
    fn flipping_keys(&self, right: &Delta, context: &EvalContext<'_>) -> Result<RecordBatch> {
        let keys = self.right_keys(&right.rows)?;
        let totals = self.keys.totals(&keys, &right.weights)?;
        let first: UInt32Array = totals.iter().map(|(row, _)| *row).collect();
        let rows = take_rows(&right.rows, &first)?;
        if self.on.residual.is_some() {
            return Ok(rows);
        }
        let keys = self.right_keys(&rows)?;
        let counts = self.right.count(self.lookup(&self.on.right, &keys), context)?;
        let flips = (0..counts.len() as u32).filter(|at| {
            let now = counts[*at as usize] as i64;
            flip(now - totals[*at as usize].1, now) != 0
        });
        Ok(take_rows(&rows, &flips.collect::<UInt32Array>())?)
    }

    /// Those of the rows whose matches came or went.
    fn flipped(&self, stayed: &Delta, right: &Delta, context: &EvalContext<'_>) -> Result<Delta> {
        let now = self.match_counts(&stayed.rows, context)?;
        let mut before = now.clone();
        let one_each = Delta::of(stayed.rows.clone(), 1);
        let (pairs, row_of) = self.local(&one_each, right)?;
        for (row, weight) in row_of.into_iter().zip(pairs.weights) {
            before[row as usize] -= weight;
        }
        let flips = (0..now.len()).map(|row| (row as u32, flip(before[row], now[row])));
        let flips: Vec<(u32, i64)> = flips
            .filter(|(_, flip)| *flip != 0)
            .map(|(row, flip)| (row, flip * stayed.weights[row as usize]))
            .collect();
        Ok(stayed.take(&flips)?)
    }
}
