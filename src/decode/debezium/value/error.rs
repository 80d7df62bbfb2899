//! Why a value is refused.

/// Why a value is not one of its column's type; reads on after the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::decode) enum ValueError {
    #[error("is not {expected}")]
    Not { expected: &'static str },
    #[error("is out of range")]
    OutOfRange,
    #[error("has more digits than the column keeps")]
    Inexact,
    #[error("has a time of day: declare the column as TIMESTAMP")]
    TimeOfDay,
    #[error(
        "may be days, seconds, ms, µs or ns: enable the schema section of the converter \
         (schemas.enable), set time.precision.mode=isostring, or say the unit in the option encodings of \
         the table"
    )]
    AmbiguousTime,
    #[error(
        "may be decimal text or base64: enable the schema section of the converter, or say which in the \
         option encodings of the table"
    )]
    AmbiguousDecimal,
    #[error(
        "is not a number, but may be one in base64: enable the schema section of the converter, or say so in \
         the option encodings of the table"
    )]
    UntoldBase64,
    #[error(
        "may be base64 or hexadecimal: enable the schema section of the converter, or say which in the option \
         encodings of the table"
    )]
    AmbiguousBinary,
    #[error("holds a NUL character or half a surrogate pair, which Postgres cannot store")]
    BadCharacter,
}
