//! How the values of a field are written, and how we know it.

use super::column_kind::ColumnKind;
use super::time::Unit;
use crate::model::WrittenAs;

/// What the schema section says about a field, as far as its JSON form leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::decode) enum Semantic {
    #[default]
    Unknown,
    /// A count since 1970 in this unit.
    Instant(Unit),
    /// Base64 of the unscaled value.
    Decimal {
        scale: i64,
    },
    /// A number with its scale beside it.
    VariableScale,
    /// Plain text, so certainly no base64.
    Text,
    /// Bytes in base64.
    Base64,
    Base64Url,
    Hex,
}

impl Semantic {
    /// What a declaration says about a column.
    pub(in crate::decode) fn declared(written: WrittenAs, kind: ColumnKind) -> Self {
        match (written, kind) {
            (WrittenAs::Text, _) => Self::Text,
            (WrittenAs::Base64, ColumnKind::Binary) => Self::Base64,
            (WrittenAs::Base64, ColumnKind::Decimal { scale, .. }) => {
                Self::Decimal { scale: scale.into() }
            }
            (WrittenAs::Base64, _) => Self::Decimal { scale: 0 },
            (WrittenAs::Base64Url, _) => Self::Base64Url,
            (WrittenAs::Hex, _) => Self::Hex,
            (WrittenAs::Days, _) => Self::Instant(Unit::Days),
            (WrittenAs::Millis, _) => Self::Instant(Unit::Millis),
            (WrittenAs::Micros, _) => Self::Instant(Unit::Micros),
            (WrittenAs::Nanos, _) => Self::Instant(Unit::Nanos),
        }
    }

    /// What an event says, or else the declaration.
    pub(in crate::decode) fn or(self, declared: Option<Self>) -> Self {
        match self {
            Self::Unknown => declared.unwrap_or_default(),
            // Bytes are texts too, in some mode.
            Self::Text => match declared {
                Some(Self::Base64 | Self::Base64Url | Self::Hex) => declared.unwrap_or_default(),
                _ => self,
            },
            _ => self,
        }
    }
}

/// The semantic of a field and how we know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::decode) struct Encoding {
    pub(in crate::decode) semantic: Semantic,
    /// From an earlier event of the table: this one came without a schema section.
    pub(in crate::decode) is_remembered: bool,
}
