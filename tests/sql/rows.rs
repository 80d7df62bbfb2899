//! Rows of small domains, so that keys meet, groups empty and fill, and values are equal or NULL often.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::array_value_to_string;
use datafusion::scalar::ScalarValue;
use tidemark::changelog::{Changelog, Offset, Operation, Position, Table};

use crate::corpus::tables;
use crate::stream::{Change, TABLES};

/// 2024-01-01.
pub(crate) const START: i64 = 1_704_067_200_000_000;

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
    if choice % 6 == 5 {
        return ScalarValue::try_from(data_type).unwrap();
    }
    let number = i64::from(choice);
    match data_type {
        DataType::Int64 => ScalarValue::Int64(Some(number % 6)),
        DataType::Int32 => ScalarValue::Int32(Some(i32::from(choice) % 5)),
        DataType::Decimal128(precision, scale) => {
            ScalarValue::Decimal128(Some(i128::from(number % 8) * 1250 + 1), *precision, *scale)
        }
        DataType::Float64 => ScalarValue::Float64(Some((number % 7) as f64 * 0.1)),
        DataType::Boolean => ScalarValue::Boolean(Some(number % 2 == 0)),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            ScalarValue::TimestampMicrosecond(Some(START + number * 90_000_000), None)
        }
        DataType::Utf8 => {
            let (_, texts) = TEXTS.iter().find(|(name, _)| *name == column).unwrap();
            ScalarValue::Utf8(Some(texts[usize::from(choice) % 4].to_owned()))
        }
        other => panic!("no values of type {other}"),
    }
}

fn row(table: &Table, key: i64, choices: &[u8]) -> Vec<ScalarValue> {
    let columns = table.columns.iter().zip(choices).enumerate();
    let cell = |(at, (column, choice)): (usize, (&tidemark::changelog::Column, &u8))| match at {
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

/// The changes of one table, from a position on.
pub(crate) fn changelog(table: &Arc<Table>, changes: &[&Change], position: i64) -> Changelog {
    let deleted = vec![5u8; table.columns.len()];
    let rows: Vec<Vec<ScalarValue>> = changes
        .iter()
        .map(|change| row(table, change.key, change.values.as_ref().unwrap_or(&deleted)))
        .collect();
    let operation = |change: &&Change| match change.values {
        Some(_) => Operation::Update,
        None => Operation::Delete,
    };
    let operations: Vec<Operation> = changes.iter().map(operation).collect();
    let positions: Vec<i64> = (position..position + rows.len() as i64).collect();
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
    Changelog {
        table: Arc::clone(table),
        batch: RecordBatch::try_new(table.changelog_schema(), columns).unwrap(),
        offsets: positions.iter().map(|p| Offset::new(1, *p as u64)).collect(),
        positions: positions.into_iter().map(Position).collect(),
        operations,
        unchanged: Vec::new(),
    }
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
            _ => Cell::Text(array_value_to_string(column, row).unwrap()),
        }
    };
    batch.columns().iter().map(cell).collect()
}

/// Current rows as a bootstrap brings them.
pub(crate) fn landed(table: &Arc<Table>, rows: &RecordBatch, position: i64) -> Changelog {
    let schema = table.changelog_schema();
    let mut columns = rows.columns().to_vec();
    for field in &schema.fields()[table.columns.len()..] {
        columns.push(match field.is_nullable() {
            true => new_null_array(field.data_type(), rows.num_rows()),
            false => {
                ScalarValue::Utf8(Some(String::new())).to_array_of_size(rows.num_rows()).unwrap()
            }
        });
    }
    let positions: Vec<i64> = (position..position + rows.num_rows() as i64).collect();
    Changelog {
        table: Arc::clone(table),
        batch: RecordBatch::try_new(schema, columns).unwrap(),
        offsets: positions.iter().map(|p| Offset::new(1, *p as u64)).collect(),
        positions: positions.into_iter().map(Position).collect(),
        operations: vec![Operation::Create; rows.num_rows()],
        unchanged: Vec::new(),
    }
}
