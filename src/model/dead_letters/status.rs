//! What a dead letter waits for, or how it has ended.

use std::fmt;

use serde::{Serialize, Serializer};

/// The text is what the dead-letter table has, and what operators filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LetterStatus {
    /// Nothing is done about it.
    Dead,
    /// It is to be processed again.
    Requested,
    /// A request that waits in the outbox once more.
    Queued,
    /// It was processed again, and that worked.
    Replayed,
    /// Something newer has made it needless.
    Superseded,
}

impl LetterStatus {
    pub const ALL: [Self; 5] =
        [Self::Dead, Self::Requested, Self::Queued, Self::Replayed, Self::Superseded];

    /// Those of letters that nothing final has become of.
    pub const OPEN: [Self; 3] = [Self::Dead, Self::Requested, Self::Queued];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Requested => "requested",
            Self::Queued => "queued",
            Self::Replayed => "replayed",
            Self::Superseded => "superseded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    pub fn is_settled(self) -> bool {
        matches!(self, Self::Replayed | Self::Superseded)
    }
}

impl fmt::Display for LetterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for LetterStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
