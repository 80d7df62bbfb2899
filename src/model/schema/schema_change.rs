//! What events teach about tables and columns: the entries of the registry.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;

use super::field_type::FieldType;
use super::sure_type::SureType;
use super::table::{NewColumns, SourceTable, Table};
use crate::model::Offset;

/// What an event taught about a column of its table; the registry is all of these, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    pub source: SourceTable,
    /// As the event spells it; of a missing column, as it is declared; of a renamed one, `OLD -> NEW`; of a
    /// registered table, its name in SQL; of a key, a JSON array of its columns; of an altered landing table, its
    /// column.
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
    /// A schema-change message of the source says so; events alone never do.
    Renamed,
    /// A table that no file declares, and that is treated as if one did.
    Registered,
    /// The key of such a table, as far as it is known before it is registered.
    Key,
    /// A column of such a table.
    Typed,
    /// A landing table has a column for a field that is not declared, or a wider one.
    Altered,
}

impl SchemaChange {
    /// Whether the next session gives the field a column where its table lands, or a wider one.
    pub fn gets_a_column(&self, tables: &[Arc<Table>]) -> bool {
        let is_new = match self.kind {
            SchemaChangeKind::Added | SchemaChangeKind::Widened => self.seen != SeenType::Null,
            _ => false,
        };
        let alters = |table: &Arc<Table>| {
            table.source == self.source && table.options.new_columns == NewColumns::Alter
        };
        is_new && tables.iter().any(alters)
    }
}

impl SchemaChangeKind {
    pub const ALL: [Self; 8] = [
        Self::Added,
        Self::Missing,
        Self::Widened,
        Self::Renamed,
        Self::Registered,
        Self::Key,
        Self::Typed,
        Self::Altered,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Missing => "missing",
            Self::Widened => "widened",
            Self::Renamed => "renamed",
            Self::Registered => "registered",
            Self::Key => "key",
            Self::Typed => "typed",
            Self::Altered => "altered",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The type of a field that no column declares: what the source has named it, or else the JSON type that its
/// values show.
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
    /// The source has named it.
    Sure(SureType),
}

impl SeenType {
    /// Those that values alone show.
    pub const OF_VALUES: [Self; 6] =
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
            (Self::Sure(one), Self::Sure(two)) => one.or(two).map_or(Self::Json, Self::Sure),
            _ => Self::Json,
        }
    }

    /// The type so far, after the value `raw` of type `seen`.
    ///
    /// A name of the source holds as long as all values are of it, and comes too late for a column that
    /// was seen without one: its type in SQL must not change because events got a schema section.
    pub fn after(self, seen: Self, raw: &str) -> Self {
        match (self, seen) {
            (one, two) if one == two => one,
            (Self::Sure(one), Self::Sure(two)) => one.or(two).map_or(Self::Json, Self::Sure),
            (Self::Sure(known), _) if known.holds(raw) => self,
            (Self::Null, _) => seen,
            (_, Self::Sure(_)) => self.or(Self::of(raw)),
            _ => self.or(seen),
        }
    }

    /// Of the columns in SQL. What the source has not named is a text, because the next value may be one.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Sure(known) => known.data_type(),
            _ => DataType::Utf8,
        }
    }

    /// Of the column that the field gets in a landing table; `None` if no value has been seen.
    pub fn field_type(self) -> Option<FieldType> {
        match self {
            Self::Null => None,
            Self::Sure(known) => Some(FieldType::Known(known)),
            Self::Boolean | Self::Integer | Self::Number | Self::Text | Self::Json => {
                Some(FieldType::Json)
            }
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let of_values = Self::OF_VALUES.into_iter().find(|seen| seen.to_string() == text);
        of_values.or_else(|| SureType::parse(text).map(Self::Sure))
    }
}

impl From<FieldType> for SeenType {
    fn from(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Json => Self::Json,
            FieldType::Known(known) => Self::Sure(known),
        }
    }
}

impl fmt::Display for SeenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean => f.write_str("boolean"),
            Self::Integer => f.write_str("integer"),
            Self::Number => f.write_str("number"),
            Self::Text => f.write_str("text"),
            Self::Json => f.write_str("json"),
            Self::Sure(known) => known.fmt(f),
        }
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
        let money = SeenType::Sure(SureType::Decimal { scale: 2 });
        let all = SeenType::OF_VALUES.into_iter().chain([money, SeenType::Sure(SureType::Bigint)]);
        for one in all.clone() {
            assert_eq!(SeenType::parse(&one.to_string()), Some(one));
            for two in all.clone() {
                let both = one.or(two);
                assert_eq!((both, both.or(one), both.or(two)), (two.or(one), both, both));
                assert_eq!(both.or(SeenType::Json), SeenType::Json);
            }
        }
        assert_eq!(SeenType::Integer.or(SeenType::Number), SeenType::Number);
        assert_eq!(SeenType::Integer.or(SeenType::Text), SeenType::Json);
    }

    #[test]
    fn a_name_holds_while_the_values_are_of_it_and_never_comes_too_late() {
        let (whole, money) = (SureType::Bigint, SureType::Decimal { scale: 2 });
        let (whole, money) = (SeenType::Sure(whole), SeenType::Sure(money));
        for (known, seen, raw, expected) in [
            (SeenType::Null, whole, "5", whole),
            (whole, SeenType::Null, "null", whole),
            (whole, whole, "null", whole),
            (whole, SeenType::Integer, "6", whole),
            (whole, SeenType::Number, "6.5", SeenType::Json),
            (whole, money, "6.50", money),
            (money, whole, "6", money),
            (SeenType::Integer, whole, "6", SeenType::Integer),
            (SeenType::Text, whole, "6", SeenType::Json),
        ] {
            assert_eq!(known.after(seen, raw), expected, "{known} {seen} {raw}");
        }
    }
}
