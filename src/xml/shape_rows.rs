//! Rows of one shape as typed columns.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::config::MissingValue;
use super::document::Extractor;
use super::paths::{Shape, ShapeColumn};
use super::value;
use crate::model::scalar::{ColumnBuilder, Scalar};
use crate::model::sql_type;

/// Characters of a value that a message shows.
const MAX_SHOWN: usize = 60;

/// What was appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppendedRows {
    pub rows: usize,
    /// Values that are not of their column's type, in place of which there is the default or NULL.
    pub unread_values: usize,
}

/// Collects rows column by column.
pub struct ShapeRows {
    shape: Arc<Shape>,
    builders: Vec<ColumnBuilder>,
}

impl ShapeRows {
    pub fn new(shape: &Arc<Shape>) -> Self {
        let builders = shape.columns.iter().map(|column| ColumnBuilder::new(&column.data_type));
        Self { shape: Arc::clone(shape), builders: builders.collect() }
    }

    /// Appends the rows that were found for the shape with this number. Either all of a document's rows are
    /// appended or none.
    ///
    /// # Errors
    /// What a column lacks or has that it can't hold, if `missing` is not to put up with it.
    pub fn append(
        &mut self,
        found: &Extractor,
        number: usize,
        missing: MissingValue,
    ) -> Result<AppendedRows, String> {
        let ParsedCells { cells, unread } = parsed(&self.shape.columns, found, number, missing)?;
        let width = self.shape.columns.len();
        for (at, builder) in self.builders.iter_mut().enumerate() {
            for cell in cells.iter().skip(at).step_by(width) {
                builder.append(*cell);
            }
        }
        Ok(AppendedRows { rows: found.row_count(number), unread_values: unread })
    }

    /// Whether [`Self::append`] would succeed.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn check(
        shape: &Shape,
        found: &Extractor,
        number: usize,
        missing: MissingValue,
    ) -> Result<(), String> {
        parsed(&shape.columns, found, number, missing).map(drop)
    }

    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.builders.iter_mut().map(ColumnBuilder::finish).collect()
    }
}

/// The values of all rows, row by row.
struct ParsedCells<'a> {
    cells: Vec<Scalar<'a>>,
    unread: usize,
}

fn parsed<'a>(
    columns: &'a [ShapeColumn],
    found: &'a Extractor,
    number: usize,
    missing: MissingValue,
) -> Result<ParsedCells<'a>, String> {
    let mut unread = 0;
    let mut cells = Vec::with_capacity(found.row_count(number) * columns.len());
    for (at, row) in found.rows(number).enumerate() {
        for (column, text) in columns.iter().zip(found.cells(row)) {
            let cell = cell(column, text, missing);
            let cell = cell.map_err(|reason| told(at, column, text, reason))?;
            unread += usize::from(cell.is_unread);
            cells.push(cell.value);
        }
    }
    Ok(ParsedCells { cells, unread })
}

struct ParsedCell<'a> {
    value: Scalar<'a>,
    is_unread: bool,
}

fn cell<'a>(
    column: &'a ShapeColumn,
    text: Option<&'a str>,
    missing: MissingValue,
) -> Result<ParsedCell<'a>, &'static str> {
    let parsed = match text {
        Some(text) => value::parse(text, &column.data_type),
        None => Ok(Scalar::Null),
    };
    let is_unread = parsed.is_err();
    let value = match (parsed, missing, &column.default) {
        (Ok(Scalar::Null), MissingValue::Fail, _) => return Err("is missing"),
        (Err(reason), MissingValue::Fail, _) => return Err(reason),
        (Ok(Scalar::Null) | Err(_), MissingValue::Default, Some(default)) => {
            value::parse(default, &column.data_type)?
        }
        (Err(_), _, _) => Scalar::Null,
        (Ok(parsed), _, _) => parsed,
    };
    Ok(ParsedCell { value, is_unread })
}

fn told(at: usize, column: &ShapeColumn, text: Option<&str>, reason: &str) -> String {
    let shown = text.filter(|text| !text.is_empty()).map(|text| {
        let shown: String = text.chars().take(MAX_SHOWN).collect();
        format!(" '{shown}'")
    });
    let (row, shown) = (at + 1, shown.unwrap_or_default());
    format!(
        "row {row}, column {} {}: the value{shown} {reason}",
        column.name,
        sql_type(&column.data_type)
    )
}
