//! Types of columns: those that values get, and those that are understood.

use arrow::datatypes::{DataType, TimeUnit};

use super::wire_format::Wire;
use crate::model::{FieldType, SureType};

/// The column that says when the epoch of a row was processed; filled if the target has it.
pub(crate) use crate::model::landing_columns::PROCESSED_AT as STAMP;

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
pub(crate) fn field_type(type_name: &str) -> Option<FieldType> {
    let known = match type_name {
        "jsonb" => return Some(FieldType::Json),
        "boolean" => SureType::Boolean,
        "bigint" => SureType::Bigint,
        "double precision" => SureType::Double,
        "timestamp without time zone" => SureType::Timestamp,
        "date" => SureType::Date,
        "text" => SureType::Varchar,
        other => SureType::parse(other)?,
    };
    Some(FieldType::Known(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_what_the_catalog_prints() {
        let known = |known| Some(FieldType::Known(known));
        assert_eq!(field_type("timestamp without time zone"), known(SureType::Timestamp));
        assert_eq!(
            (field_type("text"), field_type("jsonb")),
            (known(SureType::Varchar), Some(FieldType::Json))
        );
        assert_eq!(
            (field_type("inet"), field_type("numeric"), field_type("timestamp with time zone")),
            (None, None, None)
        );
    }
}
