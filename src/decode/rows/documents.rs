//! Documents in columns: their rows, as changes of the tables that are extracted from them.
//!
//! What comes out is the rows of each new document. Which rows of the one before are gone is for the state to
//! say, that has them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::event_origin::EventOrigin;
use super::extracted_rows::{ExtractedRows, UnreadParts};
use super::route::Route;
use super::row_images::ConvertedRow;
use super::table_rows::DecodedRow;
use crate::decode::debezium::{ColumnKind, Encoding, Value, convert};
use crate::decode::refusal::EventRefusal;
use crate::model::{Changelog, Position, Table};
use crate::xml::{
    Extraction, Extractor, Malformed, MissingValue, ShapeRows, XmlLimits, is_column, text_of_bytes,
};

/// By extracted table: changes of its source table that say nothing about its rows.
pub type KeptDocuments = HashMap<String, HashSet<Position>>;

/// With its place among all of the decoder.
type Numbered = (usize, Arc<Extraction>);

/// The documents that the rows of one table have.
#[derive(Debug, Default)]
pub(in crate::decode) struct Documents {
    documents: Vec<DocumentColumn>,
}

#[derive(Debug)]
struct DocumentColumn {
    column: String,
    /// Where its field is in an image: a declared column, or behind these.
    place: usize,
    is_declared: bool,
    extractor: Extractor,
    /// In the order of the extractor's shapes.
    kinds: Vec<Numbered>,
    /// What it says in the row at hand.
    said: DocumentState,
}

#[derive(Debug, Clone, PartialEq)]
enum DocumentState {
    /// The event does not carry it, or it can't be read.
    Nothing,
    /// The extractor has its rows; there are none without a document.
    Rows,
    NoDocument,
}

impl Documents {
    /// Those of `table`, out of all `extractions`.
    pub(in crate::decode) fn new(
        table: &Table,
        extractions: &[Arc<Extraction>],
        limits: XmlLimits,
    ) -> Self {
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
            DocumentColumn {
                column,
                place,
                is_declared,
                extractor,
                kinds,
                said: DocumentState::Nothing,
            }
        };
        Self { documents: by_column.into_iter().map(document).collect() }
    }

    /// The fields of documents that no column declares, in the order of their places.
    pub(in crate::decode) fn undeclared(&self) -> Vec<String> {
        let undeclared = self.documents.iter().filter(|document| !document.is_declared);
        undeclared.map(|document| document.column.clone()).collect()
    }

    /// Reads the documents of a row. What can't be read is told, unless nobody wants to hear of it.
    ///
    /// # Errors
    /// If the event is to be refused as a whole.
    pub(in crate::decode) fn read(
        &mut self,
        route: &Route,
        row: &ConvertedRow<'_>,
        refused: &mut Vec<String>,
    ) -> Result<Option<EventRefusal>, EventRefusal> {
        let mut problem: Option<EventRefusal> = None;
        for document in &mut self.documents {
            let told = document.read(route, row);
            let told = told.and_then(|()| document.check(&route.table));
            let Err(refusal) = told else { continue };
            document.said = DocumentState::Nothing;
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
    pub(in crate::decode) fn append(
        &self,
        row: &DecodedRow<'_, '_>,
        origin: &EventOrigin<'_>,
        tables: &mut ExtractedTables,
    ) {
        for document in &self.documents {
            for (shape, (at, kind)) in document.kinds.iter().enumerate() {
                match document.said {
                    DocumentState::NoDocument => {}
                    DocumentState::Nothing => {
                        let kept = tables.kept.entry(kind.table.name.clone()).or_default();
                        kept.insert(origin.position);
                    }
                    DocumentState::Rows => {
                        let new = || ExtractedRows::new(Arc::clone(kind), shape);
                        let rows = tables.rows[*at].get_or_insert_with(new);
                        rows.append(&document.extractor, row, origin);
                    }
                }
            }
        }
    }
}

/// What the documents of an epoch say.
pub(in crate::decode) struct ExtractedTables {
    /// One per extraction.
    rows: Vec<Option<ExtractedRows>>,
    kept: KeptDocuments,
}

impl ExtractedTables {
    pub(in crate::decode) fn new(extractions: usize) -> Self {
        let rows = std::iter::repeat_with(|| None).take(extractions).collect();
        Self { rows, kept: KeptDocuments::new() }
    }

    /// Of the table that has most of them.
    pub(in crate::decode) fn bytes(&self) -> usize {
        self.rows.iter().flatten().map(ExtractedRows::bytes).max().unwrap_or_default()
    }

    /// By extracted table; those alone where there is something.
    pub(in crate::decode) fn unread(&self) -> Vec<(String, UnreadParts)> {
        let tables = self.rows.iter().flatten();
        let unread = tables.map(|table| (table.name().to_owned(), table.unread));
        unread.filter(|(_, unread)| *unread != UnreadParts::default()).collect()
    }

    pub(in crate::decode) fn finish(self) -> (Vec<Changelog>, KeptDocuments) {
        let changelogs = self.rows.into_iter().flatten().map(ExtractedRows::finish);
        (changelogs.filter(|changelog| !changelog.is_empty()).collect(), self.kept)
    }
}

impl DocumentColumn {
    fn read(&mut self, route: &Route, row: &ConvertedRow<'_>) -> Result<(), EventRefusal> {
        let field = row.image.columns[self.place].as_ref();
        let unreadable = |reason: String| EventRefusal::MalformedXml {
            table: route.table.source.to_string(),
            column: self.column.clone(),
            reason,
        };
        let undeclared;
        let value = match (self.is_declared, field) {
            (_, None) => &Value::Unchanged,
            (true, Some(_)) => &row.cells[self.place],
            (false, Some(field)) if route.unavailable.is(field.raw) => &Value::Unchanged,
            (false, Some(field)) => {
                undeclared = convert(field.raw, ColumnKind::Text, Encoding::default())
                    .map_err(|error| unreadable(format!("its value {error}")))?;
                &undeclared
            }
        };
        let document: Cow<'_, str> = match value {
            Value::Unchanged => {
                self.said = DocumentState::Nothing;
                return Ok(());
            }
            Value::Text(text) => Cow::Borrowed(text),
            Value::Bytes(bytes) => {
                text_of_bytes(bytes).map_err(|error| unreadable(error.to_string()))?
            }
            _ => {
                self.said = DocumentState::NoDocument;
                return Ok(());
            }
        };
        self.extractor.read(&document).map_err(|error| unreadable(error.to_string()))?;
        self.said = DocumentState::Rows;
        Ok(())
    }

    /// Whether the rows have all that they must have.
    fn check(&self, table: &Table) -> Result<(), EventRefusal> {
        if self.said != DocumentState::Rows {
            return Ok(());
        }
        for (shape, (_, kind)) in self.kinds.iter().enumerate() {
            if kind.missing != MissingValue::Fail {
                continue;
            }
            let checked = ShapeRows::check(&kind.shape, &self.extractor, shape, kind.missing);
            checked.map_err(|reason| EventRefusal::SchemaMismatch {
                table: table.source.to_string(),
                column: Some(self.column.clone()),
                reason: format!("column {}, {}: {reason}", self.column, kind.table.name),
            })?;
        }
        Ok(())
    }
}
