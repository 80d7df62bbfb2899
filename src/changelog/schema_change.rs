use std::fmt;

use super::{Offset, SourceTable};

/// What an event taught about a column of its table; the registry is all of these, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    pub source: SourceTable,
    /// As the event spells it; of a missing column, as it is declared.
    pub column: String,
    pub kind: SchemaChangeKind,
    /// What holds all values seen so far; [`SeenType::Null`] if there were none.
    pub seen: SeenType,
    /// The event that showed it.
    pub offset: Offset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaChangeKind {
    /// A field that the table does not declare.
    Added,
    /// A declared column without a field: its value is NULL.
    Missing,
    /// A field that is not declared, with a value that its type so far does not hold.
    Widened,
}

impl SchemaChangeKind {
    pub const ALL: [Self; 3] = [Self::Added, Self::Missing, Self::Widened];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Missing => "missing",
            Self::Widened => "widened",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The JSON type of a field that no column declares, as its values show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeenType {
    /// NULL so far.
    Null,
    Boolean,
    Integer,
    /// With a fraction or an exponent.
    Number,
    Text,
    /// An object, an array, or values of several types.
    Json,
}

impl SeenType {
    pub const ALL: [Self; 6] =
        [Self::Null, Self::Boolean, Self::Integer, Self::Number, Self::Text, Self::Json];

    /// Of the text of a valid JSON value.
    pub fn of(raw: &str) -> Self {
        match raw.as_bytes().first() {
            None | Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => Self::Text,
            Some(b'{' | b'[') => Self::Json,
            Some(_) if raw.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => Self::Number,
            Some(_) => Self::Integer,
        }
    }

    /// The narrowest type that holds the values of both without loss.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (one, two) if one == two => one,
            (Self::Null, one) | (one, Self::Null) => one,
            (Self::Integer, Self::Number) | (Self::Number, Self::Integer) => Self::Number,
            _ => Self::Json,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|seen| seen.as_str() == text)
    }
}

impl fmt::Display for SeenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_what_the_first_character_says() {
        let cases = [
            ("null", SeenType::Null),
            ("true", SeenType::Boolean),
            ("-12", SeenType::Integer),
            ("1.0", SeenType::Number),
            ("1e5", SeenType::Number),
            ("\"1\"", SeenType::Text),
            ("[1]", SeenType::Json),
        ];
        for (raw, expected) in cases {
            assert_eq!(SeenType::of(raw), expected, "{raw}");
        }
    }

    #[test]
    fn a_type_only_widens_and_ends_at_json() {
        for one in SeenType::ALL {
            assert_eq!(SeenType::parse(one.as_str()), Some(one));
            for two in SeenType::ALL {
                let both = one.or(two);
                assert_eq!((both, both.or(one), both.or(two)), (two.or(one), both, both));
                assert_eq!(both.or(SeenType::Json), SeenType::Json);
            }
        }
        assert_eq!(SeenType::Integer.or(SeenType::Number), SeenType::Number);
        assert_eq!(SeenType::Integer.or(SeenType::Text), SeenType::Json);
    }
}
