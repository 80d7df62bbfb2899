//! The types that a declared column may have, as the conversion sees them.

use arrow::datatypes::DataType;

/// A declared type, reduced to what the conversion needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decode) enum ColumnKind {
    Boolean,
    Int16,
    Int32,
    Int64,
    Float64,
    Decimal { precision: u8, scale: i8 },
    Text,
    Binary,
    Date,
    Timestamp,
}

impl ColumnKind {
    /// `None` for a type that no declared column has.
    pub(in crate::decode) fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Boolean => Some(Self::Boolean),
            DataType::Int16 => Some(Self::Int16),
            DataType::Int32 => Some(Self::Int32),
            DataType::Int64 => Some(Self::Int64),
            DataType::Float64 => Some(Self::Float64),
            DataType::Decimal128(precision, scale) => {
                Some(Self::Decimal { precision: *precision, scale: *scale })
            }
            DataType::Utf8 => Some(Self::Text),
            DataType::Binary => Some(Self::Binary),
            DataType::Date32 => Some(Self::Date),
            DataType::Timestamp(_, _) => Some(Self::Timestamp),
            _ => None,
        }
    }
}
