//! Epochs read back from checkpoints.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use crate::model::{Epoch, Offset, OffsetSet, RecordedEpoch};

/// Hands each epoch from `first` on to `take`.
pub(super) fn decode(
    file: Bytes,
    first: Epoch,
    take: &mut impl FnMut(RecordedEpoch),
) -> Result<(), ParquetError> {
    for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
        let batch = batch?;
        let columns = Columns::of(&batch).map_err(ParquetError::from)?;
        for row in 0..batch.num_rows() {
            if columns.epoch(row)? >= first {
                take(columns.recorded(row)?);
            }
        }
    }
    Ok(())
}

/// The columns that are read.
struct Columns {
    epochs: ArrayRef,
    queues: ArrayRef,
    /// Not there in files of earlier releases.
    run_ids: Option<ArrayRef>,
    offsets: ArrayRef,
    landed: ArrayRef,
    opened_at: ArrayRef,
    committed_at: ArrayRef,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let column = |name: &str, data_type: &DataType| {
            let found = batch.column_by_name(name);
            let found = found.ok_or_else(|| damaged(format!("there is no column {name}")))?;
            arrow::compute::cast(found, data_type)
        };
        let nested = |name: &str, is_so: fn(&DataType) -> bool| {
            let found = batch.column_by_name(name).filter(|found| is_so(found.data_type()));
            found.cloned().ok_or_else(|| damaged(format!("{name} is of another type")))
        };
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let run_ids = batch.column_by_name("run_id");
        Ok(Self {
            epochs: column("epoch", &DataType::Int64)?,
            queues: column("queue", &DataType::Utf8)?,
            run_ids: run_ids.map(|ids| arrow::compute::cast(ids, &DataType::Utf8)).transpose()?,
            offsets: nested("offsets", |it| matches!(it, DataType::List(_)))?,
            landed: nested("landed", |it| matches!(it, DataType::Map(_, _)))?,
            opened_at: column("opened_at", &time)?,
            committed_at: column("committed_at", &time)?,
        })
    }

    fn epoch(&self, row: usize) -> Result<Epoch, ArrowError> {
        let number = u64::try_from(self.epochs.as_primitive::<Int64Type>().value(row));
        number.map(Epoch).map_err(|_| damaged("an epoch below 0".to_owned()))
    }

    fn recorded(&self, row: usize) -> Result<RecordedEpoch, ArrowError> {
        let run_ids = self.run_ids.as_ref().map(|ids| ids.as_string::<i32>());
        let time = |array: &ArrayRef| array.as_primitive::<TimestampMicrosecondType>().value(row);
        Ok(RecordedEpoch {
            epoch: self.epoch(row)?,
            queue: self.queues.as_string::<i32>().value(row).to_owned(),
            run_id: run_ids.filter(|ids| !ids.is_null(row)).map(|ids| ids.value(row).to_owned()),
            offsets: offsets(&self.offsets.as_list::<i32>().value(row))?,
            landed: counts(&self.landed, row)?,
            opened_at: time(&self.opened_at),
            committed_at: time(&self.committed_at),
        })
    }
}

fn offsets(ranges: &ArrayRef) -> Result<OffsetSet, ArrowError> {
    let bounds = ranges.as_struct_opt().map(|ranges| {
        let bound =
            |name: &str| ranges.column_by_name(name).and_then(|it| it.as_string_opt::<i32>());
        bound("first").zip(bound("last"))
    });
    let (firsts, lasts) =
        bounds.flatten().ok_or_else(|| damaged("offsets are no ranges".to_owned()))?;
    let mut set = OffsetSet::default();
    for (first, last) in firsts.iter().zip(lasts) {
        let parse = |text: Option<&str>| text.unwrap_or_default().parse::<Offset>().ok();
        match (parse(first), parse(last)) {
            (Some(first), Some(last)) if first.spool == last.spool && first.id <= last.id => {
                set.insert_range(first, last.id);
            }
            _ => return Err(damaged(format!("the range {first:?} to {last:?}"))),
        }
    }
    Ok(set)
}

fn counts(maps: &ArrayRef, row: usize) -> Result<BTreeMap<String, i64>, ArrowError> {
    let map = maps.as_map().value(row);
    let keys = map.column(0).as_string_opt::<i32>();
    let values = map.column(1).as_primitive_opt::<Int64Type>();
    let (keys, values) =
        keys.zip(values).ok_or_else(|| damaged("landed is of another type".to_owned()))?;
    let count = |(table, rows): (Option<&str>, Option<i64>)| Some((table?.to_owned(), rows?));
    Ok(keys.iter().zip(values).filter_map(count).collect())
}

fn damaged(what: String) -> ArrowError {
    ArrowError::ParseError(what)
}
