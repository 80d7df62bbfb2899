//! From what it is known how a column is read.

/// Where the reading of a column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The schema section of an event.
    SchemaSection,
    /// The option `encodings` of the table.
    Declared,
    /// The declared type, and the form of each value.
    Form,
}

impl Evidence {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SchemaSection => "schema section",
            Self::Declared => "option encodings",
            Self::Form => "form of each value",
        }
    }
}
