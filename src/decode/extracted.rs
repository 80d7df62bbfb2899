//! Documents in columns: their rows, as changes of the tables that are extracted from them.
//!
//! What comes out is the rows of each new document. Which rows of the one before are gone is for the state to
//! say, that has them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondBuilder,
    new_null_array,
};
use arrow::datatypes::DataType;

use super::MAX_EPOCH_BYTES;
use super::debezium::{Encoding, Image, Kind, Value, convert};
use super::refusal::Refusal;
use super::route::Route;
use super::rows::{Builder, Origin};
use crate::model::{Changelog, Offset, Operation, Position, Table};
use crate::xml::{
    Cells, Extraction, Extractor, Limits, Malformed, Missing, is_column, text_of_bytes,
};

/// By extracted table: changes of its source table that say nothing about its rows.
pub type Kept = HashMap<String, HashSet<Offset>>;

/// With its place among all of the decoder.
type Numbered = (usize, Arc<Extraction>);

/// The documents that the rows of one table have.
#[derive(Debug, Default)]
pub(super) struct Documents {
    documents: Vec<Document>,
}

#[derive(Debug)]
struct Document {
    column: String,
    /// Where its field is in an image: a declared column, or behind these.
    place: usize,
    is_declared: bool,
    extractor: Extractor,
    /// In the order of the extractor's shapes.
    kinds: Vec<Numbered>,
    /// What it says in the row at hand.
    said: Said,
}

#[derive(Debug, Clone, PartialEq)]
enum Said {
    /// The event does not carry it, or it can't be read.
    Nothing,
    /// The extractor has its rows; there are none without a document.
    Rows,
    NoDocument,
}

impl Documents {
    /// Those of `table`, out of all `extractions`.
    pub(super) fn new(table: &Table, extractions: &[Arc<Extraction>], limits: Limits) -> Self {
        let mut by_column: Vec<(String, Vec<Numbered>)> = Vec::new();
        let own = extractions.iter().enumerate().filter(|(_, e)| e.parent.name == table.name);
        for (at, extraction) in own {
            let kind = (at, Arc::clone(extraction));
            match by_column.iter_mut().find(|(column, _)| *column == extraction.xml_column) {
                Some((_, kinds)) => kinds.push(kind),
                None => by_column.push((extraction.xml_column.clone(), vec![kind])),
            }
        }
        let mut behind = table.declared().len();
        let document = |(column, kinds): (String, Vec<Numbered>)| {
            let declared = table.declared().iter().position(|c| is_column(&c.name, &column));
            let place = declared.unwrap_or(behind);
            behind += usize::from(declared.is_none());
            let shapes: Vec<_> = kinds.iter().map(|(_, kind)| Arc::clone(&kind.shape)).collect();
            let extractor = Extractor::new(&shapes, limits);
            let is_declared = declared.is_some();
            Document { column, place, is_declared, extractor, kinds, said: Said::Nothing }
        };
        Self { documents: by_column.into_iter().map(document).collect() }
    }

    /// The fields of documents that no column declares, in the order of their places.
    pub(super) fn undeclared(&self) -> Vec<String> {
        let undeclared = self.documents.iter().filter(|document| !document.is_declared);
        undeclared.map(|document| document.column.clone()).collect()
    }

    /// Reads the documents of a row. What can't be read is told, unless nobody wants to hear of it.
    ///
    /// # Errors
    /// If the event is to be refused as a whole.
    pub(super) fn read(
        &mut self,
        route: &Route,
        (image, cells): (&Image<'_>, &[Value<'_>]),
        refused: &mut Vec<String>,
    ) -> Result<Option<Refusal>, Refusal> {
        let mut problem: Option<Refusal> = None;
        for document in &mut self.documents {
            let told = document.read(route, (image, cells));
            let told = told.and_then(|()| document.check(&route.table));
            let Err(refusal) = told else { continue };
            document.said = Said::Nothing;
            let policy = |(_, kind): &Numbered| kind.malformed;
            if document.kinds.iter().any(|kind| policy(kind) == Malformed::Fail) {
                return Err(refusal);
            }
            refused.extend(document.kinds.iter().map(|(_, kind)| kind.table.name.clone()));
            if document.kinds.iter().any(|kind| policy(kind) == Malformed::Dlq) {
                problem = Some(match problem {
                    Some(first) => first.and(&refusal),
                    None => refusal,
                });
            }
        }
        Ok(problem)
    }

    /// Appends the rows of the documents that were read.
    pub(super) fn append(
        &self,
        (key, operation): (&[Value<'_>], Operation),
        origin: &Origin<'_>,
        (rows, kept): (&mut [Option<ExtractedRows>], &mut Kept),
    ) {
        for document in &self.documents {
            for (shape, (at, kind)) in document.kinds.iter().enumerate() {
                match document.said {
                    Said::NoDocument => {}
                    Said::Nothing => {
                        kept.entry(kind.table.name.clone()).or_default().insert(origin.offset);
                    }
                    Said::Rows => {
                        let rows =
                            rows[*at].get_or_insert_with(|| ExtractedRows::new(Arc::clone(kind)));
                        rows.append((&document.extractor, shape), (key, operation), origin);
                    }
                }
            }
        }
    }
}

impl Document {
    fn read(
        &mut self,
        route: &Route,
        (image, cells): (&Image<'_>, &[Value<'_>]),
    ) -> Result<(), Refusal> {
        let field = image.columns[self.place].as_ref();
        let unreadable = |reason: String| Refusal::MalformedXml {
            table: route.table.source.to_string(),
            column: self.column.clone(),
            reason,
        };
        let undeclared;
        let value = match (self.is_declared, field) {
            (_, None) => &Value::Unchanged,
            (true, Some(_)) => &cells[self.place],
            (false, Some(field)) if route.unavailable.is(field.raw) => &Value::Unchanged,
            (false, Some(field)) => {
                undeclared = convert(field.raw, Kind::Text, Encoding::default())
                    .map_err(|error| unreadable(format!("its value {error}")))?;
                &undeclared
            }
        };
        let document: Cow<'_, str> = match value {
            Value::Unchanged => {
                self.said = Said::Nothing;
                return Ok(());
            }
            Value::Text(text) => Cow::Borrowed(text),
            Value::Bytes(bytes) => {
                text_of_bytes(bytes).map_err(|error| unreadable(error.to_string()))?
            }
            _ => {
                self.said = Said::NoDocument;
                return Ok(());
            }
        };
        self.extractor.read(&document).map_err(|error| unreadable(error.to_string()))?;
        self.said = Said::Rows;
        Ok(())
    }

    /// Whether the rows have all that they must have.
    fn check(&self, table: &Table) -> Result<(), Refusal> {
        if self.said != Said::Rows {
            return Ok(());
        }
        for (shape, (_, kind)) in self.kinds.iter().enumerate() {
            if kind.missing != Missing::Fail {
                continue;
            }
            let checked = Cells::check(&kind.shape, &self.extractor, shape, kind.missing);
            checked.map_err(|reason| Refusal::SchemaMismatch {
                table: table.source.to_string(),
                column: Some(self.column.clone()),
                reason: format!("column {}, {}: {reason}", self.column, kind.table.name),
            })?;
        }
        Ok(())
    }
}

/// Collects the rows of one extracted table in one epoch.
pub(super) struct ExtractedRows {
    kind: Arc<Extraction>,
    keys: Vec<Builder>,
    row_no: Int32Builder,
    cells: Cells,
    source_ts: TimestampMicrosecondBuilder,
    event_id: StringBuilder,
    topic: StringBuilder,
    offsets: Vec<Offset>,
    positions: Vec<Position>,
    operations: Vec<Operation>,
    bytes: usize,
}

impl ExtractedRows {
    fn new(kind: Arc<Extraction>) -> Self {
        let keys =
            kind.parent.key.iter().map(|at| Builder::new(&kind.parent.columns[*at].data_type));
        Self {
            keys: keys.collect(),
            row_no: Int32Builder::new(),
            cells: Cells::new(&kind.shape),
            source_ts: TimestampMicrosecondBuilder::new(),
            event_id: StringBuilder::new(),
            topic: StringBuilder::new(),
            offsets: Vec::new(),
            positions: Vec::new(),
            operations: Vec::new(),
            bytes: 0,
            kind,
        }
    }

    fn append(
        &mut self,
        (extractor, shape): (&Extractor, usize),
        (key, operation): (&[Value<'_>], Operation),
        origin: &Origin<'_>,
    ) {
        self.bytes += extractor.value_bytes();
        // An epoch beyond it is refused, so that nothing depends on rows that are not here.
        if self.bytes > MAX_EPOCH_BYTES {
            return;
        }
        let lenient = match self.kind.missing {
            // What it would refuse was refused.
            Missing::Fail => Missing::Null,
            other => other,
        };
        let count = self.cells.append(extractor, shape, lenient).unwrap_or_default();
        for number in 1..=count {
            for (builder, at) in self.keys.iter_mut().zip(&self.kind.parent.key) {
                builder.append(&key[*at]);
            }
            self.row_no.append_value(number as i32);
            self.source_ts.append_option(origin.source_ts);
            write!(self.event_id, "{}#{number}", origin.offset).expect("memory takes any text");
            self.event_id.append_value("");
            self.topic.append_value(origin.topic);
        }
        self.offsets.extend(std::iter::repeat_n(origin.offset, count));
        self.positions.extend(std::iter::repeat_n(origin.position, count));
        self.operations.extend(std::iter::repeat_n(operation, count));
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn finish(mut self) -> Changelog {
        let count = self.offsets.len();
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; count])) };
        let mut arrays: Vec<ArrayRef> = self.keys.iter_mut().map(Builder::finish).collect();
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
