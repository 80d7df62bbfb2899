//! The `[[xml]]` sections: which columns hold XML, and which rows are in it.

use serde::Deserialize;

/// One `[[xml]]` section: rows of one kind in one column.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XmlConfig {
    /// `SCHEMA.TABLE` of the events, as the option `source` of a declared table.
    pub source_table: String,
    /// The column with the document, as the events spell it. Declared, it lands as any other column; not
    /// declared, it is read and does not land.
    pub xml_column: String,
    /// The name in SQL of the table of the rows; they land in `cdc_` and this name.
    pub target_table: String,
    /// Which elements are rows, as in `.//item` or `/order/items/item`.
    pub xpath: String,
    pub columns: Vec<ColumnConfig>,
    /// How the key columns of the source table are called in the target table, in their order. Default: the same.
    #[serde(default)]
    pub parent_key: Option<ParentKey>,
    /// What becomes of a document that can't be read. Default: `DLQ`.
    #[serde(default)]
    pub malformed_xml: Malformed,
    /// What becomes of a value that is missing or not of its column's type. Default: `NULL`.
    #[serde(default)]
    pub missing_attributes: MissingValue,
}

/// A column of the rows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnConfig {
    pub name: String,
    /// Seen from the element of the row, as in `@id`, `street/text()`, `../@id`, `phone[2]`.
    pub path: String,
    /// A type of SQL, as in `sql/tables`. Default: `VARCHAR`.
    #[serde(default = "varchar", rename = "type")]
    pub sql_type: String,
    /// In place of a missing value, with `missing_attributes = "DEFAULT"`.
    #[serde(default)]
    pub default: Option<String>,
}

fn varchar() -> String {
    "VARCHAR".to_owned()
}

/// One name, or one for each column of the key.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum ParentKey {
    One(String),
    Several(Vec<String>),
}

impl ParentKey {
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// What becomes of a document that can't be read: it is malformed, beyond a limit, or lacks a value where
/// `missing_attributes` is `FAIL`. The rows of the document before stay, except with `FAIL`, where nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Malformed {
    /// The row that has it is applied, and the event is a dead letter for the sake of the document.
    #[default]
    Dlq,
    /// The row that has it is applied, and the document is only counted.
    Skip,
    /// The event as a whole is a dead letter, and nothing of it is applied.
    Fail,
}

/// What becomes of a value that is missing or not of its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MissingValue {
    #[default]
    Null,
    /// The column's default; NULL if it has none.
    Default,
    /// The document can't be read.
    Fail,
}
