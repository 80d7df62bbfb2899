//! Rows that came in together.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use super::place::Slot;
use super::pruned_columns::PrunedColumns;

/// Rows that came in together, the dead ones among them marked.
///
/// A change never rewrites a row: the new row goes to a new segment and the old one dies. Segments of
/// similar size are merged, which drops the dead, so that there are few and none is mostly dead.
#[derive(Debug)]
pub(super) struct RowSegment {
    pub(super) batch: RecordBatch,
    /// When the source made the change, microseconds; one per row.
    pub(super) changed_at: Vec<i64>,
    /// One per row; that of a dead row means nothing.
    pub(super) slots: Vec<Slot>,
    live: Vec<bool>,
    live_count: usize,
}

impl RowSegment {
    pub(super) fn new(batch: RecordBatch, changed_at: Vec<i64>) -> Self {
        let rows = batch.num_rows();
        debug_assert_eq!(rows, changed_at.len());
        let (slots, live) = (vec![0; rows], vec![true; rows]);
        Self { batch, changed_at, slots, live, live_count: rows }
    }

    pub(super) fn kill(&mut self, row: usize) {
        if std::mem::replace(&mut self.live[row], false) {
            self.live_count -= 1;
        }
    }

    pub(super) fn live_count(&self) -> usize {
        self.live_count
    }

    pub(super) fn live_rows(&self) -> impl Iterator<Item = usize> {
        (0..self.live.len()).filter(|row| self.live[*row])
    }

    pub(super) fn is_mostly_dead(&self) -> bool {
        self.live_count * 2 < self.live.len()
    }

    /// The live rows.
    pub(super) fn snapshot(&self) -> Result<RecordBatch, ArrowError> {
        if self.live_count == self.live.len() {
            return Ok(self.batch.clone());
        }
        filter_record_batch(&self.batch, &BooleanArray::from(self.live.clone()))
    }

    /// One segment of the live rows of all `segments`, in their order. Rows are copied once: a second copy of
    /// the largest segments would be what memory peaks with.
    pub(super) fn merge(segments: &[Self], pruned: &mut PrunedColumns) -> Result<Self, ArrowError> {
        let count = segments.iter().map(Self::live_count).sum();
        let mut rows: Vec<(usize, usize)> = Vec::with_capacity(count);
        let (mut changed_at, mut slots) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (at, segment) in segments.iter().enumerate() {
            for row in (0..segment.live.len()).filter(|row| segment.live[*row]) {
                rows.push((at, row));
                changed_at.push(segment.changed_at[row]);
                slots.push(segment.slots[row]);
            }
        }
        let batches: Vec<&RecordBatch> = segments.iter().map(|segment| &segment.batch).collect();
        let mut merged = Self::new(pruned.interleave(&batches, &rows)?, changed_at);
        merged.slots = slots;
        Ok(merged)
    }

    pub(super) fn memory(&self, pruned: &PrunedColumns) -> usize {
        // Per row: when it changed, its slot, whether it lives.
        pruned.memory(&self.batch) + self.live.len() * 13
    }
}
