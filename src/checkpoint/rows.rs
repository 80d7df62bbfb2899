//! The Parquet form of ledger entries; `checkpoints/README.md` documents it for users.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder,
    StructBuilder, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::model::{LedgerEntry, Offset};

/// One row per epoch.
pub(super) fn encode(entries: &[LedgerEntry]) -> Result<Vec<u8>, ParquetError> {
    let batch = to_batch(entries)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties()))?;
    writer.write(&batch)?;
    writer.into_inner()
}

/// The rows of all parts in one file.
///
/// Files of earlier releases lack columns, which are NULL in the new one.
pub(super) fn merge(parts: Vec<Bytes>) -> Result<Vec<u8>, ParquetError> {
    let schema = to_batch(&[])?.schema();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties()))?;
    for part in parts {
        for batch in ParquetRecordBatchReaderBuilder::try_new(part)?.build()? {
            writer.write(&fitted(&batch?, &schema)?)?;
        }
    }
    writer.into_inner()
}

fn fitted(batch: &RecordBatch, schema: &Arc<Schema>) -> Result<RecordBatch, ParquetError> {
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

pub(super) fn properties() -> WriterProperties {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build()
}

fn to_batch(entries: &[LedgerEntry]) -> Result<RecordBatch, ParquetError> {
    let text = |value: fn(&LedgerEntry) -> &str| -> ArrayRef {
        Arc::new(entries.iter().map(|e| Some(value(e))).collect::<StringArray>())
    };
    let number = |value: fn(&LedgerEntry) -> i64| -> ArrayRef {
        Arc::new(entries.iter().map(|e| Some(value(e))).collect::<Int64Array>())
    };
    let time = |value: fn(&LedgerEntry) -> Option<i64>, zone: Option<&str>| -> ArrayRef {
        let times: TimestampMicrosecondArray = entries.iter().map(value).collect();
        Arc::new(times.with_timezone_opt(zone))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("pipeline", text(|e| &e.pipeline)),
        ("queue", text(|e| &e.queue)),
        ("epoch", number(|e| e.epoch.0 as i64)),
        ("run_id", text(|e| &e.run_id)),
        ("messages", number(|e| e.offsets.count() as i64)),
        ("offsets", offsets(entries)),
        ("landed", counts(entries.iter().map(|e| &e.landed))?),
        ("results", counts(entries.iter().map(|e| &e.results))?),
        ("dead_letters", number(|e| e.dead_letters)),
        // Event time has no zone, as the source's TIMESTAMP has none; the rest are instants.
        ("watermark", time(|e| e.watermark, None)),
        ("opened_at", time(|e| Some(e.opened_at), Some("UTC"))),
        ("closed_at", time(|e| Some(e.closed_at), Some("UTC"))),
        ("committed_at", time(|e| Some(e.committed_at), Some("UTC"))),
    ];
    let field =
        |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Ok(RecordBatch::try_new(Arc::new(schema), arrays)?)
}

/// Closed ranges of offsets: a list of (first, last).
fn offsets(entries: &[LedgerEntry]) -> ArrayRef {
    let range = Fields::from(vec![
        Field::new("first", DataType::Utf8, true),
        Field::new("last", DataType::Utf8, true),
    ]);
    let mut list = ListBuilder::new(StructBuilder::from_fields(range, entries.len()));
    for entry in entries {
        for (first, last) in entry.offsets.ranges() {
            let bounds = [first, Offset::new(first.spool, last)];
            let ranges = list.values();
            for (at, bound) in bounds.iter().enumerate() {
                let text = ranges.field_builder::<StringBuilder>(at);
                text.expect("both fields are text").append_value(bound.to_string());
            }
            ranges.append(true);
        }
        list.append(true);
    }
    Arc::new(list.finish())
}

fn counts<'a>(
    rows: impl Iterator<Item = &'a std::collections::BTreeMap<String, i64>>,
) -> Result<ArrayRef, ParquetError> {
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Array::builder(0));
    for row in rows {
        for (name, count) in row {
            map.keys().append_value(name);
            map.values().append_value(*count);
        }
        map.append(true)?;
    }
    Ok(Arc::new(map.finish()))
}
