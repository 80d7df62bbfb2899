//! Who takes more memory than it may, in words.

use std::fmt;

use bytesize::ByteSize;

/// Who takes more memory than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryExcess {
    /// `None`: all tables and results together.
    pub(super) table: Option<String>,
    pub(super) used: ByteSize,
    pub(super) limit: ByteSize,
    /// What takes most, largest first.
    pub(super) largest: Vec<(String, ByteSize)>,
}

impl fmt::Display for MemoryExcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { used, limit, .. } = self;
        if let Some(table) = &self.table {
            return write!(
                f,
                "table {table} takes {used} of memory and its option memory_limit is {limit}, and its rows can't leave memory: raise it"
            );
        }
        let largest: Vec<String> =
            self.largest.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
        write!(
            f,
            "what is kept in memory takes {used} and state.memory is {limit} ({}): raise the limit, or give the results that keep so much fewer groups",
            largest.join(", ")
        )
    }
}
