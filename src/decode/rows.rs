//! The rows of one table in one epoch, collected column by column.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Schema};

use super::debezium::{Value, micros_of_days};
use crate::model::{Cell, Changelog, Offset, Operation, Position, Scn, Table, Truncation, extract};

/// A decoded row; appending it cannot fail any more.
pub(super) struct Row<'r, 'a> {
    pub(super) operation: Operation,
    /// One per declared column.
    pub(super) cells: &'r [Value<'a>],
    pub(super) extra_fields: Option<&'r str>,
    /// Tells the rows of one message apart: empty but for the first of two.
    pub(super) event_id_suffix: &'static str,
}

/// What all rows of one message share.
pub(super) struct Origin<'m> {
    pub(super) offset: Offset,
    pub(super) position: Position,
    pub(super) source_ts: Option<i64>,
    pub(super) scn: Option<Scn>,
    pub(super) topic: &'m str,
}

/// Collects the changelog of one table.
pub(super) struct Rows {
    table: Arc<Table>,
    columns: Vec<Builder>,
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

impl Rows {
    pub(super) fn new(table: Arc<Table>) -> Self {
        let columns = table.declared().iter();
        let columns = columns.map(|column| Builder::new(&column.data_type)).collect();
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

    pub(super) fn append(&mut self, row: &Row<'_, '_>, origin: &Origin<'_>) {
        let event_id = format_args!("{}{}", origin.offset, row.event_id_suffix);
        for (column, (builder, value)) in self.columns.iter_mut().zip(row.cells).enumerate() {
            match column {
                0 if self.table.options.has_no_key => {
                    builder.append(&Value::Text(event_id.to_string().into()));
                }
                _ => builder.append(value),
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

    pub(super) fn truncate(&mut self, origin: &Origin<'_>) {
        let Origin { offset, position, source_ts, scn, .. } = *origin;
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

    pub(super) fn finish(mut self) -> Changelog {
        let schema = self.table.changelog_schema();
        let extra_fields = self.extra_fields.finish();
        let mut arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Builder::finish).collect();
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

pub(super) enum Builder {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl Builder {
    pub(super) fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(_, _) => {
                Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone()))
            }
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(_, zone) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// Appends a value that was converted for this column's type; anything else is null.
    pub(super) fn append(&mut self, value: &Value<'_>) {
        match self {
            Self::Boolean(builder) => builder.append_option(match value {
                Value::Bool(value) => Some(*value),
                _ => None,
            }),
            // The conversion has checked the ranges.
            Self::Int16(builder) => builder.append_option(value.int().map(|v| v as i16)),
            Self::Int32(builder) => builder.append_option(value.int().map(|v| v as i32)),
            Self::Date(builder) => builder.append_option(value.int().map(|v| v as i32)),
            Self::Int64(builder) => builder.append_option(value.int()),
            Self::Timestamp(builder) => builder.append_option(value.int()),
            Self::Float64(builder) => builder.append_option(match value {
                Value::Float(value) => Some(*value),
                _ => None,
            }),
            Self::Decimal(builder) => builder.append_option(match value {
                Value::Decimal(value) => Some(*value),
                _ => None,
            }),
            Self::Text(builder) => builder.append_option(match value {
                Value::Text(value) => Some(&**value),
                _ => None,
            }),
            Self::Binary(builder) => builder.append_option(match value {
                Value::Bytes(value) => Some(&**value),
                _ => None,
            }),
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}
