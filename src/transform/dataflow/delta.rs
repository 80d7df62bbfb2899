//! Differences as rows with weights. Adding two differences is putting their rows together: rows that cancel
//! out may both be there.

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::rows::take_rows;

/// Rows with weights: how often each one came (above 0) or went (below 0).
#[derive(Debug, Clone)]
pub(crate) struct Delta {
    pub(crate) rows: RecordBatch,
    pub(crate) weights: Vec<i64>,
}

impl Delta {
    pub(crate) fn new(rows: RecordBatch, weights: Vec<i64>) -> Self {
        debug_assert_eq!(rows.num_rows(), weights.len());
        Self { rows, weights }
    }

    pub(crate) fn empty(schema: &SchemaRef) -> Self {
        Self { rows: RecordBatch::new_empty(SchemaRef::clone(schema)), weights: Vec::new() }
    }

    /// Rows that all came once (1) or went once (-1).
    pub(crate) fn of(rows: RecordBatch, weight: i64) -> Self {
        let weights = vec![weight; rows.num_rows()];
        Self { rows, weights }
    }

    /// What takes it back.
    pub(crate) fn negated(&self) -> Self {
        let weights = self.weights.iter().map(|weight| -weight).collect();
        Self { rows: self.rows.clone(), weights }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The sum of several deltas.
    pub(crate) fn sum(schema: &SchemaRef, parts: Vec<Self>) -> Result<Self, ArrowError> {
        let mut parts: Vec<Self> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        match parts.len() {
            0 => Ok(Self::empty(schema)),
            1 => Ok(parts.remove(0)),
            _ => {
                let rows = concat_batches(schema, parts.iter().map(|part| &part.rows))?;
                Ok(Self {
                    rows,
                    weights: parts.into_iter().flat_map(|part| part.weights).collect(),
                })
            }
        }
    }

    pub(crate) fn filter(&self, mask: &BooleanArray) -> Result<Self, ArrowError> {
        let rows = filter_record_batch(&self.rows, mask)?;
        let kept = self.weights.iter().zip(mask).filter(|(_, keep)| *keep == Some(true));
        Ok(Self { rows, weights: kept.map(|(weight, _)| *weight).collect() })
    }

    /// Some of the rows, each with a weight of its own.
    pub(crate) fn take(&self, picked: &[(u32, i64)]) -> Result<Self, ArrowError> {
        let at: UInt32Array = picked.iter().map(|(row, _)| *row).collect();
        let rows = take_rows(&self.rows, &at)?;
        Ok(Self { rows, weights: picked.iter().map(|(_, weight)| *weight).collect() })
    }
}
