//! The rows of one table in one epoch, collected column by column.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Schema};

use super::event_origin::EventOrigin;
use crate::decode::debezium::{Value, micros_of_days};
use crate::model::scalar::{ColumnBuilder, Scalar};
use crate::model::{Cell, Changelog, Offset, Operation, Position, Scn, Table, Truncation, extract};

/// A decoded row; appending it cannot fail any more.
pub(in crate::decode) struct DecodedRow<'r, 'a> {
    pub(in crate::decode) operation: Operation,
    /// One per declared column.
    pub(in crate::decode) cells: &'r [Value<'a>],
    pub(in crate::decode) extra_fields: Option<&'r str>,
    /// Tells the rows of one event apart: empty but for the first of two.
    pub(in crate::decode) event_id_suffix: &'static str,
}

/// Collects the changelog of one table.
pub(in crate::decode) struct TableRows {
    table: Arc<Table>,
    columns: Vec<ColumnBuilder>,
    op: StringBuilder,
    source_ts: TimestampMicrosecondBuilder,
    event_time: TimestampMicrosecondBuilder,
    event_id: StringBuilder,
    topic: StringBuilder,
    extra_fields: StringBuilder,
    offsets: Vec<Offset>,
    positions: Vec<Position>,
    operations: Vec<Operation>,
    scns: Vec<Option<Scn>>,
    unchanged: Vec<Cell>,
    truncations: Vec<Truncation>,
}

impl TableRows {
    pub(in crate::decode) fn new(table: Arc<Table>) -> Self {
        let columns = table.declared().iter();
        let columns = columns.map(|column| ColumnBuilder::new(&column.data_type)).collect();
        Self {
            table,
            columns,
            op: StringBuilder::new(),
            source_ts: TimestampMicrosecondBuilder::new(),
            event_time: TimestampMicrosecondBuilder::new(),
            event_id: StringBuilder::new(),
            topic: StringBuilder::new(),
            extra_fields: StringBuilder::new(),
            offsets: Vec::new(),
            positions: Vec::new(),
            operations: Vec::new(),
            scns: Vec::new(),
            unchanged: Vec::new(),
            truncations: Vec::new(),
        }
    }

    pub(in crate::decode) fn append(&mut self, row: &DecodedRow<'_, '_>, origin: &EventOrigin<'_>) {
        let event_id = format_args!("{}{}", origin.event_id(), row.event_id_suffix);
        for (column, (builder, value)) in self.columns.iter_mut().zip(row.cells).enumerate() {
            match column {
                0 if self.table.has_no_key() => {
                    builder.append(Scalar::Text(&event_id.to_string()));
                }
                _ => builder.append(value.scalar()),
            }
            if *value == Value::Unchanged {
                self.unchanged.push(Cell { row: self.offsets.len(), column });
            }
        }
        self.op.append_value(row.operation.letter());
        self.source_ts.append_option(origin.source_ts);
        self.event_time.append_option(self.event_time_of(row.cells).or(origin.source_ts));
        self.event_id.write_fmt(event_id).expect("memory takes any text");
        self.event_id.append_value("");
        self.topic.append_value(origin.topic);
        self.extra_fields.append_option(row.extra_fields);
        self.offsets.push(origin.offset);
        self.positions.push(origin.position);
        self.operations.push(row.operation);
        self.scns.push(origin.scn);
    }

    pub(in crate::decode) fn truncate(&mut self, origin: &EventOrigin<'_>) {
        let EventOrigin { offset, position, source_ts, scn, .. } = *origin;
        self.truncations.push(Truncation { offset, position, source_ts, scn });
    }

    fn event_time_of(&self, cells: &[Value<'_>]) -> Option<i64> {
        let column = self.table.options.event_time?;
        let value = cells.get(column)?.int()?;
        match self.table.columns[column].data_type {
            DataType::Timestamp(_, _) => Some(value),
            DataType::Date32 => micros_of_days(value),
            _ => None,
        }
    }

    pub(in crate::decode) fn finish(mut self) -> Changelog {
        let schema = self.table.changelog_schema();
        let extra_fields = self.extra_fields.finish();
        let mut arrays: Vec<ArrayRef> =
            self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        arrays.extend(extract(&self.table, &extra_fields));
        arrays.push(Arc::new(self.op.finish()));
        arrays.push(Arc::new(self.source_ts.finish()));
        arrays.push(Arc::new(self.event_time.finish()));
        arrays.push(Arc::new(self.event_id.finish()));
        arrays.push(Arc::new(self.topic.finish()));
        arrays.push(Arc::new(extra_fields));
        Changelog {
            batch: batch(schema, arrays),
            table: self.table,
            offsets: self.offsets,
            positions: self.positions,
            operations: self.operations,
            scns: self.scns,
            unchanged: self.unchanged,
            truncations: self.truncations,
        }
    }
}

fn batch(schema: Arc<Schema>, arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema, arrays).expect("the builders follow the changelog schema")
}
