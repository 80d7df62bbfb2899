//! Which elements of a document are rows, and where their columns are.

use arrow::datatypes::DataType;

use super::path::{ColumnPath, PathStep, column_paths, row_path};
use crate::model::scalar::Scalar;
use crate::xml::value;

/// Rows of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub(in crate::xml) row: Vec<PathStep>,
    pub(in crate::xml) columns: Vec<ShapeColumn>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ShapeColumn {
    pub name: String,
    pub data_type: DataType,
    /// The first one that is there counts.
    pub(in crate::xml) paths: Vec<ColumnPath>,
    pub(in crate::xml) default: Option<String>,
}

impl Shape {
    /// # Errors
    /// What is wrong with the path.
    pub fn new(row: &str, columns: Vec<ShapeColumn>) -> Result<Self, String> {
        Ok(Self { row: row_path(row)?, columns })
    }

    pub fn columns(&self) -> &[ShapeColumn] {
        &self.columns
    }
}

impl ShapeColumn {
    /// # Errors
    /// What is wrong with the path.
    pub fn new(name: &str, data_type: DataType, path: &str) -> Result<Self, String> {
        let paths = column_paths(path)?;
        Ok(Self { name: name.to_owned(), data_type, paths, default: None })
    }

    /// With a text in place of a missing one.
    ///
    /// # Errors
    /// If it is no value of the column's type.
    pub fn with_default(self, default: &str) -> Result<Self, String> {
        match value::parse(default, &self.data_type) {
            Ok(Scalar::Null) if !default.is_empty() => Err(format!("'{default}' is no value")),
            Ok(_) => Ok(Self { default: Some(default.to_owned()), ..self }),
            Err(reason) => Err(format!("'{default}' {reason}")),
        }
    }
}
