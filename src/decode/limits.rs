//! How large and how deep an event may be.

use std::num::NonZeroUsize;

use serde::Deserialize;

/// The `[limits]` section. An event beyond one of them is a dead letter that names it; the others go on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of an event's payload. Default: 16 MiB. Beyond it: `EVENT_TOO_LARGE`.
    pub max_event_bytes: NonZeroUsize,
    /// Columns of one table that are kept without being declared, over all events that were ever seen.
    /// Default: 1000. Beyond it: `TOO_MANY_COLUMNS`.
    pub max_undeclared_columns: NonZeroUsize,
    /// Bytes of one row's undeclared columns. Default: 1 MiB. Beyond it: `UNDECLARED_TOO_LARGE`.
    pub max_undeclared_bytes: NonZeroUsize,
    /// Objects and arrays inside each other in an undeclared column. Default: 100. Beyond it:
    /// `TOO_DEEP`. PostgreSQL's own limit is some thousands.
    pub max_depth: NonZeroUsize,
}

impl Default for Limits {
    fn default() -> Self {
        let count = |count| NonZeroUsize::new(count).expect("is not 0");
        Self {
            max_event_bytes: count(16 << 20),
            max_undeclared_columns: count(1000),
            max_undeclared_bytes: count(1 << 20),
            max_depth: count(100),
        }
    }
}
