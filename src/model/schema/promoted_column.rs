//! Fields of `extra_fields` that have columns of their own in a landing table.
//!
//! For queries they stay what they are, fields that no file declares; only where they are stored differs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};

use super::field_type::FieldType;
use super::json_fields::{JsonObject, array};

/// A column of a landing table that holds values of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotedColumn {
    pub field: String,
    pub column: String,
    pub field_type: FieldType,
}

/// The values of these columns, and `extra_fields` without them. What a column can't hold exactly stays.
///
/// Shape: one array per column, each of a field of its own; rows as in `extra_fields`.
pub fn take_out_promoted(
    extra_fields: &StringArray,
    columns: &[&PromotedColumn],
) -> (Vec<ArrayRef>, StringArray) {
    let mut values: Vec<Vec<Option<&str>>> = vec![Vec::new(); columns.len()];
    let mut rest: Vec<Option<String>> = Vec::with_capacity(extra_fields.len());
    for text in extra_fields {
        let object = text.and_then(JsonObject::parse).unwrap_or_default();
        let mut fields: Vec<(String, &str)> = object.into_fields().collect();
        for (column, values) in columns.iter().zip(&mut values) {
            let at = fields
                .iter()
                .position(|(name, raw)| *name == column.field && column.field_type.holds(raw));
            let raw = at.map(|at| fields.remove(at).1);
            values.push(raw.filter(|raw| *raw != "null"));
        }
        rest.push(written(&fields));
    }
    let arrays = columns.iter().zip(values).map(|(column, values)| match column.field_type {
        FieldType::Json => Arc::new(StringArray::from(values)) as ArrayRef,
        FieldType::Known(known) => array(&values, &known.data_type()),
    });
    (arrays.collect(), StringArray::from(rest))
}

fn written(fields: &[(String, &str)]) -> Option<String> {
    let field =
        |(name, raw): &(String, &str)| format!("{}:{raw}", serde_json::Value::from(&**name));
    let fields: Vec<String> = fields.iter().map(field).collect();
    (!fields.is_empty()).then(|| format!("{{{}}}", fields.join(",")))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Decimal128Type, TimestampMicrosecondType};

    use super::*;
    use crate::model::SureType;

    fn promoted(field: &str, field_type: FieldType) -> PromotedColumn {
        PromotedColumn { field: field.to_owned(), column: field.to_lowercase(), field_type }
    }

    #[test]
    fn what_a_column_holds_exactly_is_in_it_and_nothing_else_leaves_its_place() {
        let rows = StringArray::from(vec![
            Some(r#"{"A":1.50,"B":{"c":[1]},"C":"1970-01-01T00:00:01.000000","D":"d\n"}"#),
            Some(r#"{"A":1.505,"B":null,"C":"-0044-03-15T00:00:00.000000"}"#),
            Some(r#"{"B":"x","A":null}"#),
            None,
        ]);
        let columns = [
            promoted("A", FieldType::Known(SureType::Decimal { scale: 2 })),
            promoted("B", FieldType::Json),
            promoted("C", FieldType::Known(SureType::Timestamp)),
        ];
        let (arrays, rest) = take_out_promoted(&rows, &columns.iter().collect::<Vec<_>>());
        let amounts = arrays[0].as_primitive::<Decimal128Type>();
        assert_eq!(amounts.iter().collect::<Vec<_>>(), [Some(150), None, None, None]);
        let json = arrays[1].as_string::<i32>();
        let expected = [Some(r#"{"c":[1]}"#), None, Some("\"x\""), None];
        assert_eq!(json.iter().collect::<Vec<_>>(), expected);
        let times = arrays[2].as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.iter().collect::<Vec<_>>(), [Some(1_000_000), None, None, None]);
        let expected = [
            Some(r#"{"D":"d\n"}"#),
            Some(r#"{"A":1.505,"C":"-0044-03-15T00:00:00.000000"}"#),
            None,
            None,
        ];
        assert_eq!(rest.iter().collect::<Vec<_>>(), expected);
    }
}
