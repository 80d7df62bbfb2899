//! The ways in which a result can be maintained, as `tidemark check` tells them.

use std::fmt;

/// How a result is maintained, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maintenance {
    /// It reads changes only.
    Append,
    /// Changed rows are joined with what belongs to them.
    ByKey { lookups: Vec<String> },
    /// And the groups that these rows are in are brought up to date.
    ByGroup { lookups: Vec<String> },
    /// Recomputed when a table that it reads has changed, and compared.
    Recompute { reason: String },
}

impl Maintenance {
    /// Whether its cost grows with the tables instead of with the changes.
    pub fn is_costly(&self) -> bool {
        matches!(self, Self::Recompute { .. })
    }
}

impl fmt::Display for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, lookups) = match self {
            Self::Append => return write!(f, "append: reads changes only"),
            Self::Recompute { reason } => {
                return write!(
                    f,
                    "recompute: {reason}, so it is computed anew over all rows when a table that it reads changes"
                );
            }
            Self::ByKey { lookups } => ("by key: rows that change", lookups),
            Self::ByGroup { lookups } => ("by group: groups of rows that change", lookups),
        };
        if lookups.is_empty() {
            write!(f, "{how}, no look-ups")
        } else {
            write!(f, "{how}, with look-ups in {}", lookups.join(", "))
        }
    }
}
