//! Batches put together from others.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::model::Found;

/// A row as bytes by which it can be found and told from others.
pub(crate) type EncodedRow = Arc<[u8]>;

/// A batch of these columns; `rows` tells how many there are where there is no column.
pub(crate) fn batch(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(SchemaRef::clone(schema), columns, &options)
}

/// The rows at some places. Arrow's own does not know how many rows there are without a column.
pub(crate) fn take_rows(batch: &RecordBatch, at: &UInt32Array) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| take(column, at, None));
    self::batch(batch.schema_ref(), columns.collect::<Result<_, _>>()?, at.len())
}

/// Bytes of the rows that are put together to one part of all rows: a column of a batch holds two gigabytes at most.
pub(crate) const PART_BYTES: usize = 64 << 20;

/// The parts as one batch.
pub(crate) fn whole(schema: &SchemaRef, parts: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    match parts {
        [one] => Ok(one.clone()),
        _ => concat_batches(schema, parts),
    }
}

pub(crate) fn columns(batch: &RecordBatch, at: &[usize]) -> Vec<ArrayRef> {
    at.iter().map(|column| ArrayRef::clone(batch.column(*column))).collect()
}

/// The columns of two batches of as many rows beside each other.
pub(crate) fn beside(
    schema: &SchemaRef,
    left: &RecordBatch,
    right: &RecordBatch,
) -> Result<RecordBatch, ArrowError> {
    let columns = left.columns().iter().chain(right.columns()).map(ArrayRef::clone).collect();
    batch(schema, columns, left.num_rows())
}

/// Rows of NULLs alone.
pub(crate) fn null_rows(schema: &SchemaRef, rows: usize) -> Result<RecordBatch, ArrowError> {
    let nulls = schema.fields().iter().map(|field| new_null_array(field.data_type(), rows));
    batch(schema, nulls.collect(), rows)
}

/// Those of the found rows that `mask` keeps.
pub(crate) fn filter_found(found: &Found, mask: &BooleanArray) -> Result<Found, ArrowError> {
    let rows = filter_record_batch(&found.rows, mask)?;
    let kept = found.key_of.iter().zip(mask).filter(|(_, keep)| *keep == Some(true));
    Ok(Found { rows, key_of: kept.map(|(key, _)| *key).collect() })
}

/// A mask that is true where both arrays agree; NULL agrees with NULL only if `nulls_match`.
pub(crate) fn agree(
    one: &ArrayRef,
    other: &ArrayRef,
    nulls_match: bool,
) -> Result<BooleanArray, ArrowError> {
    let other = arrow::compute::cast(other, one.data_type())?;
    if nulls_match {
        arrow::compute::kernels::cmp::not_distinct(one, &other)
    } else {
        arrow::compute::kernels::cmp::eq(one, &other)
    }
}
