//! A micro-batch: its number, everything that it writes, and what the ledger remembers of it.

mod commit;
mod ledger;
mod log;
mod recorded;

pub use commit::EpochCommit;
pub use ledger::{CommittedEpoch, LedgerEntry, LedgerPosition};
pub use log::EpochLog;
pub use recorded::{AcceptedLoss, LostEpochs, RecordedEpoch};

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a micro-batch. It rises by one with every commit and survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
