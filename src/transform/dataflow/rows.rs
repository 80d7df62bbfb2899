//! Batches put together from others.

use arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::model::Found;

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

pub(crate) fn columns(batch: &RecordBatch, at: &[usize]) -> Vec<ArrayRef> {
    at.iter().map(|column| ArrayRef::clone(batch.column(*column))).collect()
}

/// Row `left[i]` of one batch beside row `right[i]` of the other; `None` on the right is NULLs.
pub(crate) fn beside(
    schema: &SchemaRef,
    (left, left_rows): (&RecordBatch, &[u32]),
    (right, right_rows): (&RecordBatch, &[Option<u32>]),
) -> Result<RecordBatch, ArrowError> {
    let left_at = UInt32Array::from(left_rows.to_vec());
    let right_at: UInt32Array = right_rows.iter().copied().collect();
    let lefts = left.columns().iter().map(|column| take(column, &left_at, None));
    let rights = right.columns().iter().map(|column| match right.num_rows() {
        0 => Ok(new_null_array(column.data_type(), right_at.len())),
        _ => take(column, &right_at, None),
    });
    let columns = lefts.chain(rights).collect::<Result<_, _>>()?;
    batch(schema, columns, left_rows.len())
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
    match nulls_match {
        true => arrow::compute::kernels::cmp::not_distinct(one, &other),
        false => arrow::compute::kernels::cmp::eq(one, &other),
    }
}
