use std::collections::BTreeMap;

use super::{Epoch, OffsetSet};

/// What the ledger keeps of a committed epoch. Times are microseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    pub pipeline: String,
    pub queue: String,
    pub epoch: Epoch,
    /// Exactly the messages of the epoch.
    pub offsets: OffsetSet,
    /// Rows landed, per source table.
    pub landed: BTreeMap<String, i64>,
    /// Rows written or deleted, per result.
    pub results: BTreeMap<String, i64>,
    pub dead_letters: i64,
    pub watermark: Option<i64>,
    pub opened_at: i64,
    pub closed_at: i64,
    pub committed_at: i64,
}
