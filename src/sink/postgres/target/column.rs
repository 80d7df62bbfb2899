//! A column of a checked target.

use crate::sink::postgres::schema::catalog::ColumnLimits;
use crate::sink::postgres::schema::wire_format::Wire;

#[derive(Debug, Clone)]
pub(crate) struct TargetColumn {
    pub(crate) name: String,
    pub(crate) wire: Wire,
    pub(crate) is_nullable: bool,
    pub(crate) limits: ColumnLimits,
    /// The type that the server casts the text to; only of [`Wire::Literal`].
    pub(crate) cast: Option<String>,
    /// Its type, if that may refuse a value of its wire: a domain, an enum and the like.
    pub(crate) refusing_type: Option<String>,
}

impl TargetColumn {
    /// Whether its type alone can refuse a value that is encoded for it.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits.is_required
            || match self.wire {
                Wire::Bool | Wire::Int8 | Wire::Float4 | Wire::Float8 | Wire::Bytea => false,
                Wire::Numeric => self.limits.digits.is_some(),
                Wire::Int2 | Wire::Int4 | Wire::Text | Wire::Json | Wire::Jsonb => true,
                Wire::Date | Wire::Timestamp | Wire::TimestampTz | Wire::Literal => true,
            }
    }
}
