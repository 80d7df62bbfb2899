//! A declared table as the decoder sees it: which field is which column, and how it is encoded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::evidence::Evidence;
use crate::decode::debezium::{
    ColumnKind, ColumnTarget, DescribedField, Encoding, Field, Image, RowReading, Semantic,
    Unavailable, Value, convert, self_describing, semantics,
};
use crate::decode::limits::Limits;
use crate::decode::refusal::{EventRefusal, clip};
use crate::model::{Operation, SeenType, Table, sql_type};

/// Characters of a value that a dead letter's message shows.
const MAX_SHOWN: usize = 80;

/// Fields of an object whose order is remembered.
const MAX_ORDER: usize = 1024;

/// One declared table and what its events taught us.
#[derive(Debug)]
pub(in crate::decode) struct Route {
    pub(in crate::decode) table: Arc<Table>,
    columns: Vec<ColumnRoute>,
    names: FieldNames,
    /// How many of an image's fields have a place.
    fields: usize,
    /// The schema section that `columns` follows, to recognise it: it is the same for months.
    section: Option<Box<str>>,
    /// What it says about fields that no column declares.
    undeclared: HashMap<String, DescribedField>,
    pub(in crate::decode) unavailable: Arc<Unavailable>,
    pub(in crate::decode) limits: Limits,
}

#[derive(Debug)]
struct ColumnRoute {
    kind: ColumnKind,
    /// A value that is missing or can't be read is the key's fault.
    is_key: bool,
    semantic: Semantic,
    /// By the table's option `encodings`.
    declared: Option<Semantic>,
}

impl Route {
    /// `documents` are fields that get a place in the image behind the declared columns.
    pub(in crate::decode) fn new(
        table: Arc<Table>,
        unavailable: Arc<Unavailable>,
        documents: &[String],
        limits: &Limits,
    ) -> Self {
        let columns = table.declared().iter().enumerate().map(|(index, column)| {
            let kind = ColumnKind::of(&column.data_type)
                .expect("a column has one of the types it may have");
            let mut encodings = table.options.encodings.iter();
            let written = encodings.find(|(at, _)| *at == index).map(|(_, written)| *written);
            let declared = written.map(|written| Semantic::declared(written, kind));
            // A change that is its own row has its key from nobody else.
            let is_key = table.key.contains(&index) && !table.has_no_key();
            let semantic = declared.unwrap_or_default();
            ColumnRoute { kind, is_key, semantic, declared }
        });
        let columns: Vec<ColumnRoute> = columns.collect();
        let names = FieldNames::new(&table, documents);
        let fields = columns.len() + documents.len();
        Self {
            table,
            columns,
            names,
            fields,
            section: None,
            undeclared: HashMap::new(),
            unavailable,
            limits: limits.clone(),
        }
    }

    /// Takes over what the event's schema section says.
    ///
    /// Without one the last stays in force, as far as the values alone are not clear.
    pub(in crate::decode) fn follow(&mut self, section: Option<&str>) -> Result<(), EventRefusal> {
        let Some(section) = section.filter(|section| self.section.as_deref() != Some(section))
        else {
            return Ok(());
        };
        let fields = semantics(section).map_err(|error| EventRefusal::UnknownEnvelope {
            reason: format!("its schema section is none of Kafka Connect: {error}"),
        })?;
        for column in &mut self.columns {
            column.semantic = column.declared.unwrap_or_default();
        }
        self.undeclared.clear();
        for described in fields {
            match self.names.by_name.get(described.field.as_str()) {
                // Behind the columns are documents.
                Some(target) => {
                    if let Some(column) = self.columns.get_mut(target.column) {
                        column.semantic = described.semantic.or(column.declared);
                    }
                }
                None => drop(self.undeclared.insert(described.field.clone(), described)),
            }
        }
        self.section = Some(section.into());
        Ok(())
    }

    /// Whether a field of this name is a declared column, or a document.
    pub(in crate::decode) fn has_place(&self, field: &str) -> bool {
        self.names.by_name.contains_key(field)
    }

    /// A field that no column declares, as it is kept. Only the event's own section says how to read it.
    pub(in crate::decode) fn kept<'f>(
        &self,
        field: &'f Field<'_>,
        image: &Image<'_>,
    ) -> Cow<'f, str> {
        let described = self.undeclared.get(&*field.name).filter(|_| !image.reading.is_remembered);
        let text = described.and_then(|it| self_describing(field.raw, it.semantic));
        text.map_or(Cow::Borrowed(field.raw), Cow::Owned)
    }

    /// The type of such a field.
    pub(in crate::decode) fn seen(
        &self,
        field: &Field<'_>,
        kept: &str,
        image: &Image<'_>,
    ) -> SeenType {
        let described = self.undeclared.get(&*field.name).filter(|_| !image.reading.is_remembered);
        match described.and_then(|it| it.sure).filter(|sure| sure.holds(kept)) {
            Some(sure) => SeenType::Sure(sure),
            None => SeenType::of(kept),
        }
    }

    /// What each column's values are taken for, and why.
    pub(in crate::decode) fn readings(
        &self,
    ) -> impl Iterator<Item = (ColumnKind, Semantic, Evidence)> {
        self.columns.iter().map(|column| {
            let evidence = match (column.semantic, column.declared) {
                (Semantic::Unknown, _) => Evidence::Form,
                (semantic, Some(declared)) if semantic == declared => Evidence::Declared,
                _ => Evidence::SchemaSection,
            };
            (column.kind, column.semantic, evidence)
        })
    }

    pub(in crate::decode) fn read<'a>(
        &mut self,
        text: &'a str,
        image: &mut Image<'a>,
    ) -> Result<(), EventRefusal> {
        let names = &mut self.names;
        let read = image.read(text, self.fields, |place, name| names.target(place, name));
        read.map_err(|error| EventRefusal::UnknownEnvelope {
            reason: format!("its before or after is no row: {error}"),
        })
    }

    /// Converts every column of an image into `cells`.
    pub(in crate::decode) fn convert<'a>(
        &self,
        image: &Image<'a>,
        operation: Operation,
        cells: &mut Vec<Value<'a>>,
    ) -> Result<(), EventRefusal> {
        cells.clear();
        for index in 0..self.columns.len() {
            let value = self.cell(index, image)?;
            let is_missing = value == Value::Null && operation != Operation::Delete;
            if is_missing && !self.table.columns[index].nullable && !self.is_change_id(index) {
                return Err(self.mismatch(index, "is NULL, but it is declared NOT NULL"));
            }
            cells.push(value);
        }
        Ok(())
    }

    /// Whether the column is filled with the change's own id.
    fn is_change_id(&self, index: usize) -> bool {
        self.table.has_no_key() && index == 0
    }

    /// Converts one column; a key column is never null.
    pub(in crate::decode) fn cell<'a>(
        &self,
        index: usize,
        image: &Image<'a>,
    ) -> Result<Value<'a>, EventRefusal> {
        let (column, RowReading { is_remembered, is_partial, .. }) =
            (&self.columns[index], image.reading);
        let encoding = match column.declared.filter(|_| is_remembered) {
            Some(semantic) => Encoding { semantic, is_remembered: false },
            None => Encoding { semantic: column.semantic, is_remembered },
        };
        let value = match &image.columns[index] {
            None if is_partial => Value::Unchanged,
            None => Value::Null,
            Some(field) if self.unavailable.is(field.raw) => Value::Unchanged,
            Some(field) => convert(field.raw, column.kind, encoding).map_err(|error| {
                self.mismatch(index, &format!("value {} {error}", clip(field.raw, MAX_SHOWN)))
            })?,
        };
        if column.is_key && matches!(value, Value::Null | Value::Unchanged) {
            return Err(self.mismatch(index, "is part of the key, but the event has no value"));
        }
        Ok(value)
    }

    fn mismatch(&self, index: usize, reason: &str) -> EventRefusal {
        let column = &self.table.columns[index];
        let table = self.table.source.to_string();
        let reason = format!("column {} {}: {reason}", column.name, sql_type(&column.data_type));
        let column = Some(column.name.clone());
        if self.columns[index].is_key {
            EventRefusal::InvalidKey { table, column, reason }
        } else {
            EventRefusal::SchemaMismatch { table, column, reason }
        }
    }
}

/// The columns by the names that their fields may have.
#[derive(Debug)]
struct FieldNames {
    by_name: HashMap<Box<str>, ColumnTarget>,
    /// The fields of the last object in their order: the next one almost always has the same.
    order: Vec<(Box<str>, Option<ColumnTarget>)>,
}

impl FieldNames {
    fn new(table: &Table, documents: &[String]) -> Self {
        let mut by_name = HashMap::new();
        // No field is a change's own id.
        let ids = usize::from(table.has_no_key());
        for (column, declared) in table.declared().iter().enumerate().skip(ids) {
            by_name.insert(declared.name.as_str().into(), ColumnTarget { column, is_exact: true });
        }
        for (column, declared) in table.declared().iter().enumerate().skip(ids) {
            let upper = declared.name.to_uppercase().into_boxed_str();
            by_name.entry(upper).or_insert(ColumnTarget { column, is_exact: false });
        }
        for (at, document) in documents.iter().enumerate() {
            let target = ColumnTarget { column: table.declared().len() + at, is_exact: true };
            by_name.insert(document.as_str().into(), target);
        }
        Self { by_name, order: Vec::new() }
    }

    fn target(&mut self, place: usize, name: &str) -> Option<ColumnTarget> {
        if let Some((known, target)) = self.order.get(place)
            && **known == *name
        {
            return *target;
        }
        let target = self.by_name.get(name).copied();
        if place < MAX_ORDER {
            self.order.truncate(place);
            self.order.push((name.into(), target));
        }
        target
    }
}
