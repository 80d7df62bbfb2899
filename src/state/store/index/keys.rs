//! Keys as bytes.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::HashMap;

use crate::model::KeyBytes;

/// Turns key columns into bytes that are equal exactly when the keys are.
#[derive(Debug)]
pub(in crate::state) struct KeyEncoder {
    columns: Vec<usize>,
    converter: RowConverter,
}

impl KeyEncoder {
    pub(in crate::state) fn new(
        batch_schema: &arrow::datatypes::Schema,
        columns: &[usize],
    ) -> Result<Self, ArrowError> {
        let field = |c: &usize| SortField::new(batch_schema.field(*c).data_type().clone());
        let converter = RowConverter::new(columns.iter().map(field).collect())?;
        Ok(Self { columns: columns.to_vec(), converter })
    }

    /// The keys of all rows of `batch`, whose first columns are those of the table.
    pub(in crate::state) fn encode(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|c| Arc::clone(batch.column(*c))).collect();
        self.encode_columns(&columns)
    }

    pub(in crate::state) fn encode_columns(
        &self,
        columns: &[ArrayRef],
    ) -> Result<Rows, ArrowError> {
        self.converter.convert_columns(columns)
    }
}

/// Bytes, roughly, that a map of keys takes.
pub(in crate::state) fn map_memory<V>(map: &HashMap<KeyBytes, V>) -> usize {
    map.capacity() * (size_of::<(KeyBytes, V)>() + 1)
}
