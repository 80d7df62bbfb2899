//! `[[xml]]` sections and declared tables: the tables that come out of them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;

use super::config::{ColumnConfig, Malformed, MissingValue, XmlConfig};
use super::paths::{Shape, ShapeColumn};
use crate::model::{
    Column, Landing, Late, LearnedColumns, Reference, Table, TableOptions, TableOrigin,
};

/// The place of a row among those of its document, from 1 on.
const ROW_NO: &str = "row_no";
/// From where it was extracted, as in `SALES.ORDERS.SHIPPING_INFO`.
const EXTRACTED_FROM: &str = "extracted_from";

/// Rows of one kind that are read from a column.
#[derive(Debug, Clone, PartialEq)]
pub struct Extraction {
    /// The key of the source table, `row_no`, the columns of the shape, `extracted_from`.
    pub table: Arc<Table>,
    /// Whose column it is.
    pub parent: Arc<Table>,
    /// As the events spell it.
    pub xml_column: String,
    pub shape: Arc<Shape>,
    pub malformed: Malformed,
    pub missing: MissingValue,
}

impl Extraction {
    /// What `extracted_from` says.
    pub fn origin(&self) -> String {
        format!("{}.{}", self.parent.source, self.xml_column)
    }
}

/// What the sections say about the declared tables; `sql_type` knows the types by their names.
///
/// # Errors
/// All problems, each with its key.
pub fn resolve(
    sections: &[XmlConfig],
    tables: &[Arc<Table>],
    sql_type: impl Fn(&str) -> Result<DataType, String>,
) -> Result<Vec<Arc<Extraction>>, Vec<String>> {
    let (mut resolved, mut problems): (Vec<Arc<Extraction>>, Vec<String>) =
        (Vec::new(), Vec::new());
    for (at, section) in sections.iter().enumerate() {
        let mut own = Vec::new();
        let extraction = one(section, tables, &sql_type, &mut own);
        let twin = |other: &Arc<Extraction>| other.table.name == section.target_table;
        if resolved.iter().any(twin) {
            own.push(format!(
                "target_table: {} is filled by a section before",
                section.target_table
            ));
        }
        match extraction.filter(|_| own.is_empty()) {
            Some(extraction) => resolved.push(Arc::new(extraction)),
            None => problems.extend(own.iter().map(|problem| format!("xml[{at}].{problem}"))),
        }
    }
    if problems.is_empty() { Ok(resolved) } else { Err(problems) }
}

/// What can be told without the declared tables.
pub(crate) fn problems(
    sections: &[XmlConfig],
    sql_type: impl Fn(&str) -> Result<DataType, String>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, section) in sections.iter().enumerate() {
        let mut own = Vec::new();
        shape(section, &sql_type, &mut own);
        problems.extend(own.iter().map(|problem| format!("xml[{at}].{problem}")));
    }
    problems
}

fn one(
    section: &XmlConfig,
    tables: &[Arc<Table>],
    sql_type: &impl Fn(&str) -> Result<DataType, String>,
    problems: &mut Vec<String>,
) -> Option<Extraction> {
    let shape = shape(section, sql_type, problems);
    let name = &section.source_table;
    let Some(parent) = tables.iter().find(|table| table.source.to_string() == *name) else {
        problems.push(format!("source_table: no file under sql/tables declares {name}"));
        return None;
    };
    if parent.options.late == Late::Drop {
        problems.push(format!(
            "source_table: {name} has late = 'drop', with which its rows would not follow"
        ));
    }
    check_xml_column(section, parent, problems);
    check_target(section, tables, problems);
    let shape = Arc::new(shape?);
    let table = Arc::new(derived(section, parent, &shape, problems)?);
    Some(Extraction {
        table,
        parent: Arc::clone(parent),
        xml_column: section.xml_column.clone(),
        shape,
        malformed: section.malformed_xml,
        missing: section.missing_attributes,
    })
}

fn check_xml_column(section: &XmlConfig, parent: &Table, problems: &mut Vec<String>) {
    let declared =
        parent.columns.iter().find(|column| is_column(&column.name, &section.xml_column));
    match declared.map(|column| &column.data_type) {
        None | Some(DataType::Utf8 | DataType::Binary) => {}
        Some(other) => problems.push(format!(
            "xml_column: {} is declared as {other}, and a document is VARCHAR or BYTEA",
            section.xml_column
        )),
    }
    if section.xml_column.is_empty() {
        problems.push("xml_column: names no column".to_owned());
    }
}

/// Whether a column is that of a field: it is spelled the same, or in upper case.
pub(crate) fn is_column(column: &str, field: &str) -> bool {
    column == field || column.to_uppercase() == field
}

fn check_target(section: &XmlConfig, tables: &[Arc<Table>], problems: &mut Vec<String>) {
    let target = &section.target_table;
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if target.is_empty() || !target.chars().all(is_word) {
        problems
            .push(format!("target_table: '{target}' is not a name of small letters, digits and _"));
    }
    let landing = landing(target);
    let is_taken = |table: &&Arc<Table>| {
        let names = [table.name.clone(), format!("{}_changes", table.name)];
        names.contains(target)
            || format!("{target}_changes") == table.name
            || table.options.landing.target() == Some(landing.as_str())
    };
    if let Some(other) = tables.iter().find(is_taken) {
        problems.push(format!(
            "target_table: {target} can't be told from the declared table {}",
            other.name
        ));
    }
}

fn landing(target: &str) -> String {
    format!("cdc_{target}")
}

fn shape(
    section: &XmlConfig,
    sql_type: &impl Fn(&str) -> Result<DataType, String>,
    problems: &mut Vec<String>,
) -> Option<Shape> {
    let mut columns = Vec::new();
    if section.columns.is_empty() {
        problems.push("columns: there is none".to_owned());
    }
    for (at, config) in section.columns.iter().enumerate() {
        match column(config, sql_type) {
            Ok(column) => columns.push(column),
            Err(problem) => problems.push(format!("columns[{at}].{problem}")),
        }
    }
    match Shape::new(&section.xpath, columns) {
        Ok(shape) => Some(shape),
        Err(problem) => {
            problems.push(format!("xpath: {problem}"));
            None
        }
    }
}

fn column(
    config: &ColumnConfig,
    sql_type: &impl Fn(&str) -> Result<DataType, String>,
) -> Result<ShapeColumn, String> {
    if config.name.is_empty() {
        return Err("name: is empty".to_owned());
    }
    let data_type = sql_type(&config.sql_type).map_err(|problem| format!("type: {problem}"))?;
    if data_type == DataType::Binary {
        return Err("type: BYTEA has no form in XML; take VARCHAR".to_owned());
    }
    let column = ShapeColumn::new(&config.name, data_type, &config.path);
    let column = column.map_err(|problem| format!("path: {problem}"))?;
    match &config.default {
        None => Ok(column),
        Some(default) => {
            column.with_default(default).map_err(|problem| format!("default: {problem}"))
        }
    }
}

/// The declaration of the target table.
fn derived(
    section: &XmlConfig,
    parent: &Table,
    shape: &Shape,
    problems: &mut Vec<String>,
) -> Option<Table> {
    let keys = parent.key.iter().map(|at| &parent.columns[*at]);
    let names: Vec<String> = match &section.parent_key {
        None => keys.clone().map(|column| column.name.clone()).collect(),
        Some(names) => names.names().to_vec(),
    };
    if names.len() != parent.key.len() {
        problems.push(format!(
            "parent_key: {} name(s), and the key of {} has {} column(s)",
            names.len(),
            section.source_table,
            parent.key.len()
        ));
        return None;
    }
    let column = |name: &str, data_type: &DataType, nullable| Column {
        name: name.to_owned(),
        data_type: data_type.clone(),
        nullable,
    };
    let mut columns: Vec<Column> =
        names.iter().zip(keys).map(|(name, key)| column(name, &key.data_type, false)).collect();
    columns.push(column(ROW_NO, &DataType::Int32, false));
    columns.extend(shape.columns().iter().map(|c| column(&c.name, &c.data_type, true)));
    columns.push(column(EXTRACTED_FROM, &DataType::Utf8, true));
    let mut known = HashSet::new();
    if let Some(twin) = columns.iter().find(|column| !known.insert(&column.name)) {
        problems.push(format!(
            "columns: {} is twice in {}, which has the key of {}, {ROW_NO} and {EXTRACTED_FROM} too",
            twin.name, section.target_table, section.source_table
        ));
    }
    let width = names.len();
    let options = options(section, parent, width);
    let (name, source) = (section.target_table.clone(), parent.source.clone());
    Some(Table {
        name,
        source,
        columns,
        key: (0..=width).collect(),
        options,
        origin: TableOrigin::Extracted { from: parent.name.clone() },
        learned: LearnedColumns::default(),
    })
}

/// Rows live as long as the row that they were extracted from. By a key of several columns nobody can tell
/// whether that one is in memory, so they stay.
fn options(section: &XmlConfig, parent: &Table, key_width: usize) -> TableOptions {
    let has_one_key = key_width == 1;
    let landing = match parent.options.landing {
        Landing::History(_) => Landing::History(landing(&section.target_table)),
        Landing::Current(_) => Landing::Current(landing(&section.target_table)),
        Landing::None => Landing::None,
    };
    TableOptions {
        ttl: parent.options.ttl.filter(|_| has_one_key),
        landing,
        history: parent.options.history,
        references: has_one_key.then(|| Reference { column: 0, table: parent.name.clone() }),
        ..TableOptions::default()
    }
}
