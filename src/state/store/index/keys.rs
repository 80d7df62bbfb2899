use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

/// Turns key columns into bytes that are equal exactly when the keys are.
#[derive(Debug)]
pub(super) struct KeyEncoder {
    columns: Vec<usize>,
    converter: RowConverter,
}

impl KeyEncoder {
    pub(super) fn new(
        batch_schema: &arrow::datatypes::Schema,
        columns: &[usize],
    ) -> Result<Self, ArrowError> {
        let field = |c: &usize| SortField::new(batch_schema.field(*c).data_type().clone());
        let converter = RowConverter::new(columns.iter().map(field).collect())?;
        Ok(Self { columns: columns.to_vec(), converter })
    }

    /// The keys of all rows of `batch`, whose first columns are those of the table.
    pub(super) fn encode(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|c| Arc::clone(batch.column(*c))).collect();
        self.encode_columns(&columns)
    }

    pub(super) fn encode_columns(&self, columns: &[ArrayRef]) -> Result<Rows, ArrowError> {
        self.converter.convert_columns(columns)
    }
}
