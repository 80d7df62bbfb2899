//! A declared table as the decoder sees it: which field is which column, and how it is encoded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::Refusal;
use super::debezium::{
    Described, Encoding, Field, Image, Kind, Semantic, Target, Unavailable, Value, convert,
    self_describing, semantics,
};
use super::profile::Evidence;
use super::refusal::clip;
use crate::model::{Operation, SeenType, Table};

/// Characters of a value that a dead letter's message shows.
const MAX_SHOWN: usize = 80;

/// Fields of an object whose order is remembered.
const MAX_ORDER: usize = 1024;

/// One declared table and what its events taught us.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) table: Arc<Table>,
    columns: Vec<ColumnRoute>,
    names: FieldNames,
    /// How many of an image's fields have a place.
    fields: usize,
    /// The schema section that `columns` follows, to recognise it: it is the same for months.
    section: Option<Box<str>>,
    /// What it says about fields that no column declares.
    undeclared: HashMap<String, Described>,
    pub(super) unavailable: Arc<Unavailable>,
}

#[derive(Debug)]
struct ColumnRoute {
    kind: Kind,
    /// A value that is missing or can't be read is the key's fault.
    is_key: bool,
    semantic: Semantic,
    /// By the table's option `encodings`.
    declared: Option<Semantic>,
}

impl Route {
    /// `documents` are fields that get a place in the image behind the declared columns.
    pub(super) fn new(
        table: Arc<Table>,
        unavailable: Arc<Unavailable>,
        documents: &[String],
    ) -> Self {
        let columns = table.declared().iter().enumerate().map(|(index, column)| {
            let kind =
                Kind::of(&column.data_type).expect("a column has one of the types it may have");
            let mut encodings = table.options.encodings.iter();
            let written = encodings.find(|(at, _)| *at == index).map(|(_, written)| *written);
            let declared = written.map(|written| Semantic::declared(written, kind));
            // A change that is its own row has its key from nobody else.
            let is_key = table.key.contains(&index) && !table.options.has_no_key;
            let semantic = declared.unwrap_or_default();
            ColumnRoute { kind, is_key, semantic, declared }
        });
        let columns: Vec<ColumnRoute> = columns.collect();
        let names = FieldNames::new(&table, documents);
        let fields = columns.len() + documents.len();
        let (section, undeclared) = (None, HashMap::new());
        Self { table, columns, names, fields, section, undeclared, unavailable }
    }

    /// Takes over what the event's schema section says.
    ///
    /// Without one the last stays in force, as far as the values alone are not clear.
    pub(super) fn follow(&mut self, section: Option<&str>) -> Result<(), Refusal> {
        let Some(section) = section.filter(|section| self.section.as_deref() != Some(section))
        else {
            return Ok(());
        };
        let fields = semantics(section).map_err(|error| Refusal::UnknownEnvelope {
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
    pub(super) fn has_place(&self, field: &str) -> bool {
        self.names.by_name.contains_key(field)
    }

    /// A field that no column declares, as it is kept. Only the event's own section says how to read it.
    pub(super) fn kept<'f>(&self, field: &'f Field<'_>, is_remembered: bool) -> Cow<'f, str> {
        let described = self.undeclared.get(&*field.name).filter(|_| !is_remembered);
        let text = described.and_then(|it| self_describing(field.raw, it.semantic));
        text.map_or(Cow::Borrowed(field.raw), Cow::Owned)
    }

    /// The type of such a field.
    pub(super) fn seen(&self, field: &Field<'_>, kept: &str, is_remembered: bool) -> SeenType {
        let described = self.undeclared.get(&*field.name).filter(|_| !is_remembered);
        match described.and_then(|it| it.sure).filter(|sure| sure.holds(kept)) {
            Some(sure) => SeenType::Sure(sure),
            None => SeenType::of(kept),
        }
    }

    /// What each column's values are taken for, and why.
    pub(super) fn readings(&self) -> impl Iterator<Item = (Kind, Semantic, Evidence)> {
        self.columns.iter().map(|column| {
            let evidence = match (column.semantic, column.declared) {
                (Semantic::Unknown, _) => Evidence::Form,
                (semantic, Some(declared)) if semantic == declared => Evidence::Declared,
                _ => Evidence::SchemaSection,
            };
            (column.kind, column.semantic, evidence)
        })
    }

    pub(super) fn read<'a>(&mut self, text: &'a str, image: &mut Image<'a>) -> Result<(), Refusal> {
        let names = &mut self.names;
        let read = image.read(text, self.fields, |place, name| names.target(place, name));
        read.map_err(|error| Refusal::UnknownEnvelope {
            reason: format!("its before or after is no row: {error}"),
        })
    }

    /// Converts every column of an image into `cells`.
    pub(super) fn convert<'a>(
        &self,
        image: &Image<'a>,
        operation: Operation,
        is_remembered: bool,
        cells: &mut Vec<Value<'a>>,
    ) -> Result<(), Refusal> {
        cells.clear();
        for (index, field) in image.columns[..self.columns.len()].iter().enumerate() {
            let value = self.cell(index, field.as_ref(), is_remembered)?;
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
        self.table.options.has_no_key && index == 0
    }

    /// Converts one column; a key column is never null.
    pub(super) fn cell<'a>(
        &self,
        index: usize,
        field: Option<&Field<'a>>,
        is_remembered: bool,
    ) -> Result<Value<'a>, Refusal> {
        let column = &self.columns[index];
        let encoding = match column.declared.filter(|_| is_remembered) {
            Some(semantic) => Encoding { semantic, is_remembered: false },
            None => Encoding { semantic: column.semantic, is_remembered },
        };
        let value = match field {
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

    fn mismatch(&self, index: usize, reason: &str) -> Refusal {
        let column = &self.table.columns[index];
        let table = self.table.source.to_string();
        let reason = format!("column {} {}: {reason}", column.name, column.data_type);
        let column = Some(column.name.clone());
        if self.columns[index].is_key {
            Refusal::InvalidKey { table, column, reason }
        } else {
            Refusal::SchemaMismatch { table, column, reason }
        }
    }
}

/// The columns by the names that their fields may have.
#[derive(Debug)]
struct FieldNames {
    by_name: HashMap<Box<str>, Target>,
    /// The fields of the last object in their order: the next one almost always has the same.
    order: Vec<(Box<str>, Option<Target>)>,
}

impl FieldNames {
    fn new(table: &Table, documents: &[String]) -> Self {
        let mut by_name = HashMap::new();
        // No field is a change's own id.
        let ids = usize::from(table.options.has_no_key);
        for (column, declared) in table.declared().iter().enumerate().skip(ids) {
            by_name.insert(declared.name.as_str().into(), Target { column, is_exact: true });
        }
        for (column, declared) in table.declared().iter().enumerate().skip(ids) {
            let upper = declared.name.to_uppercase().into_boxed_str();
            by_name.entry(upper).or_insert(Target { column, is_exact: false });
        }
        for (at, document) in documents.iter().enumerate() {
            let target = Target { column: table.declared().len() + at, is_exact: true };
            by_name.insert(document.as_str().into(), target);
        }
        Self { by_name, order: Vec::new() }
    }

    fn target(&mut self, place: usize, name: &str) -> Option<Target> {
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
