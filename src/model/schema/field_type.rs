//! The type of a column that a field of `extra_fields` gets.

use std::fmt;

use arrow::datatypes::DataType;

use super::sure_type::SureType;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Any JSON value: the source has not named the type, or values are not of it.
    Json,
    /// The source has named it.
    Known(SureType),
}

impl FieldType {
    pub fn data_type(self) -> DataType {
        match self {
            Self::Json => DataType::Utf8,
            Self::Known(known) => known.data_type(),
        }
    }

    /// Whether a column of this type takes all values of another one.
    pub fn takes(self, values: Self) -> bool {
        match (self, values) {
            (Self::Json, _) => true,
            (Self::Known(_), Self::Json) => false,
            (Self::Known(column), Self::Known(values)) => column.or(values) == Some(column),
        }
    }

    /// Whether a column of this type gives back the same JSON. Years beyond four digits have other texts in
    /// PostgreSQL.
    pub(super) fn holds(self, raw: &str) -> bool {
        match self {
            Self::Json => true,
            Self::Known(known @ (SureType::Timestamp | SureType::Date)) => {
                let has_sign = raw.starts_with("\"-") || raw.starts_with("\"+");
                !has_sign && known.holds(raw)
            }
            Self::Known(known) => known.holds(raw),
        }
    }
}

/// As PostgreSQL calls it.
impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json => f.write_str("jsonb"),
            Self::Known(known) => known.fmt(f),
        }
    }
}
