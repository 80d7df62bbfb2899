//! Types of columns: those that values get, and those that are understood.

use arrow::datatypes::{DataType, TimeUnit};

use super::wire_format::Wire;
use crate::model::SureType;

/// The column that says when the epoch of a row was processed; filled if the target has it.
pub(crate) const STAMP: &str = "processed_at";

/// The type of [`STAMP`]'s values.
pub(crate) fn stamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type of a column for values of a type; `None` if Postgres has none.
pub(crate) fn type_name(data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::Decimal128(precision, scale) => Some(format!("numeric({precision},{scale})")),
        other => Wire::natural(other).map(Wire::sql),
    }
}

/// The type of a column, as the catalog prints it; `None` if it is none that fields get.
pub(crate) fn field_type(type_name: &str) -> Option<Option<SureType>> {
    let known = match type_name {
        "jsonb" => return Some(None),
        "boolean" => SureType::Boolean,
        "bigint" => SureType::Bigint,
        "double precision" => SureType::Double,
        "timestamp without time zone" => SureType::Timestamp,
        "date" => SureType::Date,
        "text" => SureType::Varchar,
        other => SureType::parse(other)?,
    };
    Some(Some(known))
}

/// Whether a column takes all values of a type; without one it is JSONB.
pub(crate) fn holds(column: Option<SureType>, values: Option<SureType>) -> bool {
    match (column, values) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(column), Some(values)) => column.or(values) == Some(column),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_what_the_catalog_prints() {
        assert_eq!(field_type("timestamp without time zone"), Some(Some(SureType::Timestamp)));
        assert_eq!(
            (field_type("text"), field_type("jsonb")),
            (Some(Some(SureType::Varchar)), Some(None))
        );
        assert_eq!(
            (field_type("inet"), field_type("numeric"), field_type("timestamp with time zone")),
            (None, None, None)
        );
    }
}
