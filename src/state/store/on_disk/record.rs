//! A row as bytes: the change that made it, and its values in Arrow's row format.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, RowParser, Rows, SortField};
use fjall::Slice;

use crate::model::{Position, Scn};
use crate::state::store::place::LastChange;

/// Position, SCN (0: none), time of the change.
const HEAD: usize = 24;

/// What is known of a key that is not in memory.
#[derive(Debug, Clone)]
pub(in super::super) struct DiskRow {
    pub(in super::super) last: LastChange,
    /// When the source made the change, microseconds.
    pub(in super::super) changed_at: i64,
    record: Slice,
}

impl DiskRow {
    /// `None` if the bytes are none of a row.
    pub(super) fn read(record: Slice) -> Option<Self> {
        let number = |at: usize| {
            let bytes = record.get(at..at + 8)?.try_into().ok()?;
            Some(i64::from_be_bytes(bytes))
        };
        let (position, scn, changed_at) = (number(0)?, number(8)?, number(16)?);
        let last = LastChange { position: Position(position), scn: Scn::new(scn) };
        Some(Self { last, changed_at, record })
    }

    /// A deleted key has no values.
    pub(in super::super) fn is_deleted(&self) -> bool {
        self.record.len() == HEAD
    }

    fn values(&self) -> &[u8] {
        &self.record[HEAD..]
    }
}

/// Writes and reads the rows of one table.
#[derive(Debug)]
pub(super) struct RecordCodec {
    schema: SchemaRef,
    converter: RowConverter,
    parser: RowParser,
}

impl RecordCodec {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let fields = schema.fields().iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let parser = converter.parser();
        Ok(Self { schema: Arc::clone(schema), converter, parser })
    }

    pub(super) fn encode(&self, rows: &RecordBatch) -> Result<Rows, ArrowError> {
        self.converter.convert_columns(rows.columns())
    }

    /// The values of rows that are not deleted.
    pub(super) fn decode<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a DiskRow>,
    ) -> Result<RecordBatch, ArrowError> {
        let count = rows.len();
        if count == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let rows = rows.map(|row| self.parser.parse(row.values()));
        let columns = self.converter.convert_rows(rows)?;
        let columns = columns.iter().map(with_plain_nulls).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

/// Arrow's row format gives a NULL the least value of its type below it, on which functions of DataFusion overflow.
fn with_plain_nulls(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.nulls() {
        Some(nulls) if nulls.null_count() > 0 && column.data_type().is_primitive() => {
            // `take` has the default value for a NULL index that is out of bounds.
            let place = |row: usize| if column.is_valid(row) { row as u32 } else { u32::MAX };
            let places: Vec<u32> = (0..column.len()).map(place).collect();
            take(column, &UInt32Array::new(places.into(), Some(nulls.clone())), None)
        }
        _ => Ok(Arc::clone(column)),
    }
}

/// `values` are empty for a deleted key.
pub(super) fn record(last: LastChange, changed_at: i64, values: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + values.len());
    record.extend(last.position.0.to_be_bytes());
    record.extend(last.scn.map_or(0, Scn::number).to_be_bytes());
    record.extend(changed_at.to_be_bytes());
    record.extend(values);
    record
}
