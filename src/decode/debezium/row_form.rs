//! What else than columns is among the fields of a row.

/// Where a row stands, which tells what is among its fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::decode) enum RowForm {
    /// An image of an envelope: columns alone.
    #[default]
    Columns,
    /// Taken out of its envelope, of which fields with `__` are left.
    Flattened,
    /// An image of a GoldenGate operation: each column may have a field that says that it is missing.
    GoldenGateImage,
    /// A GoldenGate row: the same, and what belongs to the operation stands beside the columns.
    GoldenGateRow,
}

/// What a GoldenGate operation has besides its rows.
const OPERATION: [&str; 7] =
    ["table", "op_type", "op_ts", "current_ts", "pos", "primary_keys", "tokens"];

const IS_MISSING: &str = "_isMissing";

impl RowForm {
    /// Whether a field of this name is no column.
    pub(in crate::decode) fn is_metadata(self, name: &str) -> bool {
        match self {
            Self::Columns | Self::GoldenGateImage => false,
            Self::Flattened => name.starts_with("__"),
            Self::GoldenGateRow => OPERATION.contains(&name),
        }
    }

    /// The column that a field with this name says something about.
    pub(in crate::decode) fn column_of_mark(self, name: &str) -> Option<&str> {
        match self {
            Self::Columns | Self::Flattened => None,
            Self::GoldenGateImage | Self::GoldenGateRow => name.strip_suffix(IS_MISSING),
        }
    }
}

/// How a row is to be read.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::decode) struct RowReading {
    pub(in crate::decode) form: RowForm,
    /// A column that is not in the row has not changed.
    pub(in crate::decode) is_partial: bool,
    /// Its event has no schema section: what an earlier one said counts, as far as the values are not clear.
    pub(in crate::decode) is_remembered: bool,
}
