//! Rows of small domains, so that keys meet, groups empty and fill, and values are equal or NULL often.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::scalar::ScalarValue;
use tidemark::model::{Changelog, Offset, Operation, Position, Table};

use crate::corpus::tables;
use crate::stream::TABLES;

/// 2024-01-01.
pub(crate) const START: i64 = 1_704_067_200_000_000;
/// Microseconds, as are all times.
pub(crate) const MINUTE: i64 = 60_000_000;
/// Between one time and the next one.
pub(crate) const TIME_STEP: i64 = 90_000_000;

const TEXTS: [(&str, [&str; 4]); 7] = [
    ("status", ["NEW", "PAID", "SHIPPED", "GOLD"]),
    ("tier", ["GOLD", "SILVER", "NEW", "GOLD"]),
    ("region", ["north", "south", "north", "east"]),
    ("name", ["ada", "bob", "cyd", "ada"]),
    ("category", ["A", "B", "C", "A"]),
    ("kind", ["NEW", "PAID", "click", "view"]),
    ("note", ["", "x", "y", "x"]),
];

fn value(column: &str, data_type: &DataType, choice: u8) -> ScalarValue {
    if choice % 6 == NULL {
        return ScalarValue::try_from(data_type).unwrap();
    }
    let number = i64::from(choice);
    match data_type {
        DataType::Int64 => ScalarValue::Int64(Some(number % 6)),
        DataType::Int32 => ScalarValue::Int32(Some(i32::from(choice) % 5)),
        DataType::Decimal128(precision, scale) => {
            ScalarValue::Decimal128(Some(i128::from(number % 8 - 2) * 1250 + 1), *precision, *scale)
        }
        DataType::Float64 => ScalarValue::Float64(Some((number % 7) as f64 * 0.1)),
        DataType::Boolean => ScalarValue::Boolean(Some(number % 2 == 0)),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            ScalarValue::TimestampMicrosecond(Some(START + number * TIME_STEP), None)
        }
        DataType::Utf8 => {
            let (_, texts) = TEXTS.iter().find(|(name, _)| *name == column).unwrap();
            ScalarValue::Utf8(Some(texts[usize::from(choice) % 4].to_owned()))
        }
        other => panic!("no values of type {other}"),
    }
}

/// A choice of which every column makes NULL.
pub(crate) const NULL: u8 = 5;

pub(crate) fn row(table: &Table, key: i64, choices: &[u8]) -> Vec<ScalarValue> {
    let columns = table.columns.iter().zip(choices).enumerate();
    let cell = |(at, (column, choice)): (usize, (&tidemark::model::Column, &u8))| match at {
        0 => ScalarValue::Int64(Some(key)),
        _ => value(&column.name, &column.data_type, *choice),
    };
    columns.map(cell).collect()
}

pub(crate) fn describe(table: usize, key: i64, choices: &[u8]) -> String {
    let tables = tables();
    let table = tables.iter().find(|t| t.name == TABLES[table].0).unwrap();
    row(table, key, choices).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Rows of one table as its changelog, from a position on; none without rows.
pub(crate) fn changelog(
    table: &Arc<Table>,
    rows: Vec<Vec<ScalarValue>>,
    operations: Vec<Operation>,
    position: &mut i64,
) -> Option<Changelog> {
    if rows.is_empty() {
        return None;
    }
    let positions: Vec<i64> = (*position..*position + rows.len() as i64).collect();
    *position += rows.len() as i64;
    let column = |at: usize| -> ArrayRef {
        ScalarValue::iter_to_array(rows.iter().map(|row| row[at].clone())).unwrap()
    };
    let mut columns: Vec<ArrayRef> = (0..table.columns.len()).map(column).collect();
    for field in &table.changelog_schema().fields()[table.columns.len()..] {
        columns.push(match field.is_nullable() {
            true => new_null_array(field.data_type(), rows.len()),
            false => {
                let texts = positions.iter().map(|p| ScalarValue::Utf8(Some(p.to_string())));
                ScalarValue::iter_to_array(texts).unwrap()
            }
        });
    }
    Some(Changelog {
        table: Arc::clone(table),
        batch: RecordBatch::try_new(table.changelog_schema(), columns).unwrap(),
        scns: vec![None; rows.len()],
        offsets: positions.iter().map(|p| Offset::new(1, *p as u64)).collect(),
        positions: positions.into_iter().map(Position).collect(),
        operations,
        unchanged: Vec::new(),
        truncations: Vec::new(),
    })
}

/// A cell of a result, comparable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Float(f64),
}

impl Cell {
    /// Floats to nine digits: their sums depend on the order of the rows.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(one), Self::Float(other)) => {
                (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
                    || (one.is_nan() && other.is_nan())
            }
            _ => self == other,
        }
    }
}

pub(crate) fn cells(batch: &RecordBatch, row: usize) -> Vec<Cell> {
    let cell = |column: &ArrayRef| {
        if column.is_null(row) {
            return Cell::Null;
        }
        match ScalarValue::try_from_array(column, row).unwrap() {
            ScalarValue::Float64(Some(number)) => Cell::Float(number),
            _ => {
                // In a list, NULL is not an empty text.
                let options = FormatOptions::default().with_null("NULL");
                let shown = ArrayFormatter::try_new(column, &options).unwrap();
                Cell::Text(shown.value(row).to_string())
            }
        }
    };
    batch.columns().iter().map(cell).collect()
}
