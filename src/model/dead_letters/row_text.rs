//! A row of a result as JSON, and back: that is how dead letters keep rows that come from no single event.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use serde_json::{Map, Value};

/// An object of all columns: numbers that JSON holds exactly and booleans as they are, everything else as text.
pub fn row_json(batch: &RecordBatch, row: usize) -> String {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let value = match column.data_type() {
            _ if column.is_null(row) => Value::Null,
            DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
            integer if integer.is_integer() => cell_text(column, row)
                .parse::<i64>()
                .map_or_else(|_| cell_text(column, row).into(), Value::from),
            _ => Value::String(cell_text(column, row)),
        };
        (field.name().clone(), value)
    });
    Value::Object(cells.collect::<Map<_, _>>()).to_string()
}

/// A value that is not NULL. Values of one type have the same text only if they are equal.
pub fn cell_text(column: &ArrayRef, row: usize) -> String {
    // A type that has no text is a result column that no target takes.
    array_value_to_string(&Arc::clone(column), row).unwrap_or_else(|error| error.to_string())
}

/// The texts of some columns in an object of [`row_json`], NULL as `None`; `None` if it has not all of them.
pub fn texts_of(json: &str, columns: &[&str]) -> Option<Vec<Option<String>>> {
    let Ok(Value::Object(cells)) = serde_json::from_str(json) else { return None };
    let text = |name: &&str| {
        Some(match cells.get(*name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
    };
    columns.iter().map(text).collect()
}

/// Rows of these texts; `None` if a text is not exactly that of a value.
pub fn rows_of(schema: &SchemaRef, texts: &[Vec<Option<String>>]) -> Option<RecordBatch> {
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let given: StringArray = texts.iter().map(|row| row[at].as_deref()).collect();
        let read = parse(&given, field.data_type()).ok()?;
        let is_exact = |row: usize| {
            if given.is_null(row) {
                return read.is_null(row);
            }
            read.is_valid(row) && cell_text(&read, row) == given.value(row)
        };
        (0..given.len()).all(is_exact).then_some(read)
    });
    RecordBatch::try_new(SchemaRef::clone(schema), columns.collect::<Option<_>>()?).ok()
}

fn parse(texts: &StringArray, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let bytes: BinaryArray = texts.iter().map(|text| bytes_of(text?)).collect();
            cast(&bytes, data_type)
        }
        _ => cast(texts, data_type),
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    Some(
        digits?
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
        TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn sample() -> RecordBatch {
        let decimals =
            Decimal128Array::from(vec![Some(-1_234_500), Some(i128::from(u64::MAX)), None]);
        let times = || TimestampMicrosecondArray::from(vec![Some(1), Some(-1_000_000), None]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(7), None])),
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None])),
            Arc::new(decimals.with_precision_and_scale(38, 3).unwrap()),
            Arc::new(StringArray::from(vec![Some("a \"quote\" \u{1}"), Some(""), None])),
            Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), Some(-1e300), None])),
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
            Arc::new(Date32Array::from(vec![Some(0), Some(19_999), None])),
            Arc::new(times()),
            Arc::new(times().with_timezone("UTC")),
            Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255, 16][..]), Some(&[]), None])),
        ];
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| Field::new(format!("c{at}"), column.data_type().clone(), true))
            .collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    #[test]
    fn a_row_comes_back_from_its_json() {
        let batch = sample();
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let texts: Vec<_> =
            (0..3).map(|row| texts_of(&row_json(&batch, row), &names).unwrap()).collect();
        assert_eq!(rows_of(&schema, &texts).unwrap(), batch);
    }

    #[test]
    fn what_is_no_value_of_its_column_is_refused() {
        let number = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        for text in ["seven", "07", "7.5", ""] {
            assert_eq!(rows_of(&number, &[vec![Some(text.to_owned())]]), None, "{text}");
        }
        let bytes = Arc::new(Schema::new(vec![Field::new("b", DataType::Binary, true)]));
        assert_eq!(rows_of(&bytes, &[vec![Some("f".to_owned())]]), None);
        assert_eq!(texts_of("{\"a\": 1}", &["a", "b"]), None);
        assert_eq!(texts_of("[1]", &["a"]), None);
    }
}
