//! How far the state on disk is, and what is on its way there.

use std::collections::BTreeMap;
use std::time::Instant;

use super::mark::Mark;
use crate::model::{CommittedEpoch, KeyBytes};

/// What is on its way to the disk.
#[derive(Debug)]
pub(in crate::state) struct Flush {
    /// By table.
    pub(in crate::state) keys: Vec<Vec<KeyBytes>>,
    pub(in crate::state) mark: Mark,
    pub(in crate::state) invalidations: u64,
}

/// The state of a pipeline on disk, and how far it is.
#[derive(Debug, Default)]
pub(in crate::state) struct Durable {
    pub(in crate::state) pipeline: String,
    /// The newest committed epoch.
    pub(in crate::state) committed: Option<CommittedEpoch>,
    pub(in crate::state) flush: Option<Flush>,
    /// When it began, or the last one.
    pub(in crate::state) begun_at: Option<Instant>,
    /// What a start found.
    pub(in crate::state) found: Option<Mark>,
    /// By table: its number on disk.
    pub(in crate::state) numbers: BTreeMap<String, u16>,
}

impl Durable {
    /// One that no table has, on disk or in this state.
    pub(in crate::state) fn free_number(&self) -> u16 {
        let found = self.found.iter().flat_map(|mark| mark.tables.values().map(|it| it.number));
        let taken: Vec<u16> = found.chain(self.numbers.values().copied()).collect();
        (0..=u16::MAX).find(|number| !taken.contains(number)).unwrap_or(u16::MAX)
    }
}
