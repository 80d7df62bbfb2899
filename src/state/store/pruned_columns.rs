//! Columns that no query reads: they take no memory.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, make_array, new_null_array};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

/// Bytes of a DECIMAL, the widest value that tables have.
const WIDEST: usize = 16;

/// Columns whose values no query reads: NULL in every row, and all over one run of zero bytes, because a
/// table may have far more rows than an array of NULLs for each such column is worth.
#[derive(Debug)]
pub(super) struct PrunedColumns {
    columns: Vec<usize>,
    zeros: Buffer,
}

impl Default for PrunedColumns {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl PrunedColumns {
    pub(super) fn new(columns: Vec<usize>) -> Self {
        Self { columns, zeros: MutableBuffer::from_len_zeroed(0).into() }
    }

    pub(super) fn has(&self, column: usize) -> bool {
        self.columns.contains(&column)
    }

    /// `columns` without the values that no query reads.
    pub(super) fn apply(
        &mut self,
        schema: &SchemaRef,
        mut columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<RecordBatch, ArrowError> {
        for at in self.columns.clone() {
            columns[at] = self.nulls(schema.field(at).data_type(), rows)?;
        }
        RecordBatch::try_new(Arc::clone(schema), columns)
    }

    /// As Arrow's `interleave_record_batch`, which would copy the NULLs.
    pub(super) fn interleave(
        &mut self,
        batches: &[&RecordBatch],
        rows: &[(usize, usize)],
    ) -> Result<RecordBatch, ArrowError> {
        let schema = batches[0].schema();
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|at| !self.has(*at)).collect();
        let projected: Vec<RecordBatch> =
            batches.iter().map(|batch| batch.project(&kept)).collect::<Result<_, _>>()?;
        let merged = interleave_record_batch(&projected.iter().collect::<Vec<_>>(), rows)?;
        let mut merged = merged.columns().iter().map(Arc::clone);
        let column = |at| {
            if self.has(at) {
                return Ok(Arc::clone(batches[0].column(at)));
            }
            let lost = || ArrowError::ComputeError("a merged segment has lost a column".to_owned());
            merged.next().ok_or_else(lost)
        };
        let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
        self.apply(&schema, columns, rows.len())
    }

    /// Bytes that the columns with values take.
    pub(super) fn memory(&self, batch: &RecordBatch) -> usize {
        let kept = batch.columns().iter().enumerate().filter(|(at, _)| !self.has(*at));
        kept.map(|(_, column)| column.get_array_memory_size()).sum()
    }

    fn nulls(&mut self, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        let (width, is_text) = match data_type {
            DataType::Utf8 | DataType::Binary => (size_of::<i32>(), true),
            other => match other.primitive_width() {
                Some(width) => (width, false),
                None => return Ok(new_null_array(data_type, rows)),
            },
        };
        if width > WIDEST {
            return Ok(new_null_array(data_type, rows));
        }
        // Texts have one offset more than rows.
        let bytes = (rows + 1) * WIDEST;
        if self.zeros.len() < bytes {
            self.zeros = MutableBuffer::from_len_zeroed(bytes.next_power_of_two()).into();
        }
        let validity = NullBuffer::new(BooleanBuffer::new(self.zeros.clone(), 0, rows));
        let mut data = ArrayData::builder(data_type.clone())
            .len(rows)
            .nulls(Some(validity))
            .add_buffer(self.zeros.clone());
        if is_text {
            data = data.add_buffer(MutableBuffer::from_len_zeroed(0).into());
        }
        Ok(make_array(data.build()?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{Field, Int64Type, Schema, TimeUnit};

    use super::*;

    #[test]
    fn pruned_columns_are_null_in_any_type_and_share_their_bytes() {
        let types = [
            DataType::Int64,
            DataType::Utf8,
            DataType::Binary,
            DataType::Boolean,
            DataType::Decimal128(15, 2),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Date32,
        ];
        let mut fields = vec![Field::new("id", DataType::Int64, false)];
        fields.extend(types.iter().map(|t| Field::new(t.to_string(), t.clone(), true)));
        let schema: SchemaRef = Schema::new(fields).into();
        let mut pruned = PrunedColumns::new((1..=types.len()).collect());
        let batch = |pruned: &mut PrunedColumns, ids: Vec<i64>| {
            let rows = ids.len();
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids))];
            columns.extend(types.iter().map(|data_type| new_null_array(data_type, rows)));
            pruned.apply(&schema, columns, rows).unwrap()
        };
        let first = batch(&mut pruned, (0..1000).collect());
        let second = batch(&mut pruned, (1000..3000).collect());
        let rows: Vec<(usize, usize)> =
            (0..1000).map(|row| (0, row)).chain((0..2000).map(|row| (1, row))).collect();
        let merged = pruned.interleave(&[&first, &second], &rows).unwrap();
        assert_eq!(merged.column(0).as_primitive::<Int64Type>().values().last(), Some(&2999));
        for column in &merged.columns()[1..] {
            assert_eq!((column.len(), column.null_count()), (3000, 3000), "{}", column.data_type());
        }
        // 16 bytes for 3,001 rows, rounded up.
        assert_eq!(pruned.zeros.len(), 65_536);
        let starts = |at: usize| merged.column(at).to_data().buffers()[0].as_ptr();
        assert!([2, 3, 5, 6, 7].iter().all(|at| starts(*at) == starts(1)));
        assert!(pruned.memory(&merged) < 3000 * 8 + 1000, "{}", pruned.memory(&merged));
    }
}
