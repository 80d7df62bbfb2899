//! What the ledger keeps of committed epochs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Epoch, RecordedEpoch};
use crate::model::{Generations, OffsetSet, SchemaChange};

/// What the ledger keeps of a committed epoch. Times are microseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    pub pipeline: String,
    pub queue: String,
    pub epoch: Epoch,
    /// The sink value that committed it.
    pub run_id: String,
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

impl LedgerEntry {
    /// What is remembered of it.
    pub fn recorded(&self) -> RecordedEpoch {
        RecordedEpoch {
            epoch: self.epoch,
            queue: self.queue.clone(),
            run_id: Some(self.run_id.clone()),
            offsets: self.offsets.clone(),
            landed: self.landed.clone(),
            opened_at: self.opened_at,
            committed_at: self.committed_at,
        }
    }
}

/// An epoch, and the sink value that committed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedEpoch {
    pub epoch: Epoch,
    pub run_id: String,
}

/// Where the ledger says that the pipeline is.
#[derive(Debug, Clone, Default)]
pub struct LedgerPosition {
    /// The last committed epoch; `None` if there is none.
    pub epoch: Option<Epoch>,
    /// The sink value that committed it.
    pub run_id: Option<String>,
    /// The newest messages of the queue that were committed.
    pub offsets: OffsetSet,
    /// Per spool the highest id that was committed and is not in `offsets`.
    pub forgotten_to: BTreeMap<u64, u64>,
    pub generations: Generations,
    pub watermark: Option<i64>,
    /// Under which definition the rows of each result were written, by the result's name.
    pub definitions: BTreeMap<String, String>,
    /// The schema registry of the pipeline, oldest first.
    pub schema_changes: Vec<SchemaChange>,
}

impl LedgerPosition {
    /// The generations, with what was taken in them.
    pub fn generations(&self) -> Generations {
        let mut generations = self.generations.clone();
        let exact = self.offsets.ranges().map(|(first, last)| (first.spool, last));
        let forgotten = self.forgotten_to.iter().map(|(spool, last)| (*spool, *last));
        exact.chain(forgotten).for_each(|(spool, last)| generations.note_taken(spool, last));
        generations
    }
}
