//! Rows of one shape as typed columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int16Builder,
    Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::DataType;

use super::config::Missing;
use super::scan::Extractor;
use super::shape::{Shape, ShapeColumn};
use super::value::{self, Parsed};

/// Characters of a value that a message shows.
const MAX_SHOWN: usize = 60;

/// Collects rows column by column.
pub struct Cells {
    shape: Arc<Shape>,
    builders: Vec<Builder>,
}

impl Cells {
    pub fn new(shape: &Arc<Shape>) -> Self {
        let builders = shape.columns.iter().map(|column| Builder::new(&column.data_type));
        Self { shape: Arc::clone(shape), builders: builders.collect() }
    }

    /// Appends the rows that were found for the shape with this number; how many. Either all of a document's
    /// rows are appended or none.
    ///
    /// # Errors
    /// What a column lacks or has that it can't hold, if `missing` is not to put up with it.
    pub fn append(
        &mut self,
        found: &Extractor,
        number: usize,
        missing: Missing,
    ) -> Result<usize, String> {
        let cells = parsed(&self.shape.columns, found, number, missing)?;
        let width = self.shape.columns.len();
        for (at, builder) in self.builders.iter_mut().enumerate() {
            for cell in cells.iter().skip(at).step_by(width) {
                builder.append(*cell);
            }
        }
        Ok(found.row_count(number))
    }

    /// Whether [`Self::append`] would succeed.
    ///
    /// # Errors
    /// As there.
    pub fn check(
        shape: &Shape,
        found: &Extractor,
        number: usize,
        missing: Missing,
    ) -> Result<(), String> {
        parsed(&shape.columns, found, number, missing).map(drop)
    }

    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.builders.iter_mut().map(Builder::finish).collect()
    }
}

/// Row by row.
fn parsed<'a>(
    columns: &'a [ShapeColumn],
    found: &'a Extractor,
    number: usize,
    missing: Missing,
) -> Result<Vec<Parsed<'a>>, String> {
    let mut cells = Vec::with_capacity(found.row_count(number) * columns.len());
    for (at, row) in found.rows(number).enumerate() {
        for (column, text) in columns.iter().zip(found.cells(row)) {
            let cell = cell(column, text, missing);
            cells.push(cell.map_err(|reason| told(at, column, text, reason))?);
        }
    }
    Ok(cells)
}

fn cell<'a>(
    column: &'a ShapeColumn,
    text: Option<&'a str>,
    missing: Missing,
) -> Result<Parsed<'a>, &'static str> {
    let parsed = match text {
        Some(text) => value::parse(text, &column.data_type),
        None => Ok(Parsed::Null),
    };
    match (parsed, missing, &column.default) {
        (Ok(Parsed::Null), Missing::Fail, _) => Err("is missing"),
        (Err(reason), Missing::Fail, _) => Err(reason),
        (Ok(Parsed::Null) | Err(_), Missing::Default, Some(default)) => {
            value::parse(default, &column.data_type)
        }
        (Err(_), _, _) => Ok(Parsed::Null),
        (Ok(parsed), _, _) => Ok(parsed),
    }
}

fn told(at: usize, column: &ShapeColumn, text: Option<&str>, reason: &str) -> String {
    let shown = text.filter(|text| !text.is_empty()).map(|text| {
        let shown: String = text.chars().take(MAX_SHOWN).collect();
        format!(" '{shown}'")
    });
    let (row, shown) = (at + 1, shown.unwrap_or_default());
    format!("row {row}, column {} {}: the value{shown} {reason}", column.name, column.data_type)
}

enum Builder {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Text(StringBuilder),
}

impl Builder {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(_, _) => {
                Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone()))
            }
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(_, zone) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// Appends a value that was converted for this column's type; anything else is null.
    fn append(&mut self, cell: Parsed<'_>) {
        let int = match cell {
            Parsed::Int(value) => Some(value),
            _ => None,
        };
        match (self, cell) {
            // The conversion has checked the ranges.
            (Self::Int16(builder), _) => builder.append_option(int.map(|value| value as i16)),
            (Self::Int32(builder), _) => builder.append_option(int.map(|value| value as i32)),
            (Self::Date(builder), _) => builder.append_option(int.map(|value| value as i32)),
            (Self::Int64(builder), _) => builder.append_option(int),
            (Self::Timestamp(builder), _) => builder.append_option(int),
            (Self::Text(builder), Parsed::Text(text)) => builder.append_value(text),
            (Self::Text(builder), _) => builder.append_null(),
            (Self::Decimal(builder), Parsed::Decimal(value)) => builder.append_value(value),
            (Self::Decimal(builder), _) => builder.append_null(),
            (Self::Float64(builder), Parsed::Float(value)) => builder.append_value(value),
            (Self::Float64(builder), _) => builder.append_null(),
            (Self::Boolean(builder), Parsed::Bool(value)) => builder.append_value(value),
            (Self::Boolean(builder), _) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
        }
    }
}
