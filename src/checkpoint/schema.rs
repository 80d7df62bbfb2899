//! The Parquet form of the schema registry; `checkpoints/README.md` documents it for users.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use super::rows::properties;
use crate::model::SchemaChange;

/// One row per change, in their order.
pub(super) fn encode(pipeline: &str, changes: &[SchemaChange]) -> Result<Vec<u8>, ParquetError> {
    let text = |value: fn(&SchemaChange) -> String| -> ArrayRef {
        Arc::new(changes.iter().map(|change| Some(value(change))).collect::<StringArray>())
    };
    let pipeline: ArrayRef = Arc::new(StringArray::from(vec![pipeline; changes.len()]));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("pipeline", pipeline, true),
        ("source_schema", text(|c| c.source.schema.clone()), true),
        ("source_table", text(|c| c.source.table.clone()), true),
        ("column_name", text(|c| c.column.clone()), true),
        ("change", text(|c| c.kind.as_str().to_owned()), true),
        ("seen_type", text(|c| c.seen.to_string()), true),
        ("event_id", text(|c| c.offset.to_string()), true),
    ])?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties()))?;
    writer.write(&batch)?;
    writer.into_inner()
}
