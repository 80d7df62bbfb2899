//! The rows of one extracted table in one epoch.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondBuilder,
    new_null_array,
};
use arrow::datatypes::DataType;

use super::event_origin::EventOrigin;
use super::table_rows::DecodedRow;
use crate::decode::limits::MAX_EPOCH_BYTES;
use crate::model::scalar::ColumnBuilder;
use crate::model::{Changelog, Offset, Operation, Position};
use crate::xml::{Extraction, Extractor, MissingValue, ShapeRows};

/// What there is in documents beside the values that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnreadParts {
    /// Not of their column's type, so that there is the default or NULL.
    pub values: usize,
    /// Of elements of rows, and no column reads them.
    pub attributes: usize,
}

/// Collects the rows of one extracted table in one epoch.
pub(super) struct ExtractedRows {
    kind: Arc<Extraction>,
    /// The number of its shape among those of its document.
    shape: usize,
    keys: Vec<ColumnBuilder>,
    row_no: Int32Builder,
    cells: ShapeRows,
    source_ts: TimestampMicrosecondBuilder,
    event_id: StringBuilder,
    topic: StringBuilder,
    offsets: Vec<Offset>,
    positions: Vec<Position>,
    operations: Vec<Operation>,
    bytes: usize,
    pub(super) unread: UnreadParts,
}

impl ExtractedRows {
    pub(super) fn new(kind: Arc<Extraction>, shape: usize) -> Self {
        let keys = kind
            .parent
            .key
            .iter()
            .map(|at| ColumnBuilder::new(&kind.parent.columns[*at].data_type));
        Self {
            keys: keys.collect(),
            row_no: Int32Builder::new(),
            cells: ShapeRows::new(&kind.shape),
            source_ts: TimestampMicrosecondBuilder::new(),
            event_id: StringBuilder::new(),
            topic: StringBuilder::new(),
            offsets: Vec::new(),
            positions: Vec::new(),
            operations: Vec::new(),
            bytes: 0,
            unread: UnreadParts::default(),
            kind,
            shape,
        }
    }

    pub(super) fn append(
        &mut self,
        extractor: &Extractor,
        row: &DecodedRow<'_, '_>,
        origin: &EventOrigin<'_>,
    ) {
        self.bytes += extractor.value_bytes();
        // An epoch beyond it is refused, so that nothing depends on rows that are not here.
        if self.bytes > MAX_EPOCH_BYTES {
            return;
        }
        let lenient = match self.kind.missing {
            // What it would refuse was refused.
            MissingValue::Fail => MissingValue::Null,
            other => other,
        };
        let appended = self.cells.append(extractor, self.shape, lenient).unwrap_or_default();
        let count = appended.rows;
        self.unread.values += appended.unread_values;
        self.unread.attributes += extractor.unread_attributes(self.shape);
        for number in 1..=count {
            for (builder, at) in self.keys.iter_mut().zip(&self.kind.parent.key) {
                builder.append(row.cells[*at].scalar());
            }
            self.row_no.append_value(number as i32);
            self.source_ts.append_option(origin.source_ts);
            write!(self.event_id, "{}#{number}", origin.event_id()).expect("memory takes any text");
            self.event_id.append_value("");
            self.topic.append_value(origin.topic);
        }
        self.offsets.extend(std::iter::repeat_n(origin.offset, count));
        self.positions.extend(std::iter::repeat_n(origin.position, count));
        self.operations.extend(std::iter::repeat_n(row.operation, count));
    }

    pub(super) fn name(&self) -> &str {
        &self.kind.table.name
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn finish(mut self) -> Changelog {
        let count = self.offsets.len();
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; count])) };
        let mut arrays: Vec<ArrayRef> = self.keys.iter_mut().map(ColumnBuilder::finish).collect();
        arrays.push(Arc::new(self.row_no.finish()));
        arrays.extend(self.cells.finish());
        arrays.push(text(&self.kind.origin()));
        let letters = self.operations.iter().map(|operation| operation.letter());
        arrays.push(Arc::new(StringArray::from_iter_values(letters)));
        let source_ts: ArrayRef = Arc::new(self.source_ts.finish());
        arrays.extend([Arc::clone(&source_ts), source_ts]);
        arrays.push(Arc::new(self.event_id.finish()));
        arrays.push(Arc::new(self.topic.finish()));
        arrays.push(new_null_array(&DataType::Utf8, count));
        let table = Arc::clone(&self.kind.table);
        let batch = RecordBatch::try_new(table.changelog_schema(), arrays)
            .expect("the builders follow the changelog schema");
        Changelog {
            table,
            batch,
            scns: vec![None; count],
            offsets: self.offsets,
            positions: self.positions,
            operations: self.operations,
            unchanged: Vec::new(),
            truncations: Vec::new(),
        }
    }
}
