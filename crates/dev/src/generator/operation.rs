//! What a change does to its row.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A row of a snapshot.
    Read,
    Create,
    Update,
    Delete,
}

impl Operation {
    /// The letter of the envelope's `op` field.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
        }
    }
}
