//! Rows of a query that its result does not show, because they have no key of their own.

use arrow::array::RecordBatch;

/// Rows that are newly left out: all of them counted, some of them kept to be told.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeftOut {
    pub(crate) null_keys: LeftOutRows,
    pub(crate) duplicates: LeftOutRows,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct LeftOutRows {
    pub(crate) count: u64,
    /// Some of them, whole.
    pub(crate) some: Option<RecordBatch>,
}

impl LeftOut {
    /// The most rows of each kind that are kept.
    pub(crate) const MOST_ROWS: usize = 100;

    pub(crate) fn is_empty(&self) -> bool {
        self.null_keys.count == 0 && self.duplicates.count == 0
    }

    pub(crate) fn add_null_keys(&mut self, some: RecordBatch, count: u64) {
        self.null_keys.add(some, count);
    }

    pub(crate) fn add_duplicates(&mut self, some: RecordBatch, count: u64) {
        self.duplicates.add(some, count);
    }
}

impl LeftOutRows {
    /// The first ones are kept.
    fn add(&mut self, some: RecordBatch, count: u64) {
        self.count += count;
        if self.some.is_none() && some.num_rows() > 0 {
            self.some = Some(some);
        }
    }
}
