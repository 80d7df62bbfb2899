//! Everything that an epoch writes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::model::{
    AcceptedLoss, Changelog, DeadLetter, Epoch, Generations, LedgerEntry, Mending, OffsetSet,
    Replayed, Resent, ResultChanges, ResultLetter, SchemaChange,
};

/// Everything that one epoch writes, in one transaction.
#[derive(Debug, Clone)]
pub struct EpochCommit {
    pub epoch: Epoch,
    pub queue: String,
    /// Every message of the epoch: landed, dead or without rows (a tombstone).
    pub offsets: OffsetSet,
    /// The generations of the queue as of this epoch; new ones are persisted with it.
    pub generations: Generations,
    pub landing: Vec<Changelog>,
    pub results: Vec<ResultChanges>,
    /// Results that no file describes any more: their definitions are forgotten, their rows stay.
    pub retired: Vec<String>,
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters about rows of results that come from no single event.
    pub result_letters: Vec<ResultLetter>,
    /// Dead letters of earlier epochs that this one has processed again. Its offsets don't hold theirs.
    pub replayed: Vec<Replayed>,
    /// Rows of results that were refused before. Such an epoch has nothing else but `replayed`.
    pub mended: Vec<Mending>,
    /// Requests that go back to the outbox.
    pub resent: Vec<Resent>,
    /// What the epoch's events taught about the columns of their tables.
    pub schema_changes: Vec<SchemaChange>,
    /// Epochs that the ledger had lost, and that an operator has given up.
    pub accepted_loss: Option<AcceptedLoss>,
    /// Event time in microseconds since 1970 below which nothing is expected; `None` before the first event.
    pub watermark: Option<i64>,
    /// When the first message of the epoch was taken from the source.
    pub opened_at: SystemTime,
    /// When the epoch was complete and its SQL had run.
    pub closed_at: SystemTime,
}

impl EpochCommit {
    /// An epoch with nothing in it, opened and closed now.
    pub fn empty(epoch: Epoch, queue: &str) -> Self {
        let now = SystemTime::now();
        Self {
            epoch,
            queue: queue.to_owned(),
            offsets: OffsetSet::default(),
            generations: Generations::default(),
            landing: Vec::new(),
            results: Vec::new(),
            retired: Vec::new(),
            dead_letters: Vec::new(),
            result_letters: Vec::new(),
            replayed: Vec::new(),
            mended: Vec::new(),
            resent: Vec::new(),
            schema_changes: Vec::new(),
            accepted_loss: None,
            watermark: None,
            opened_at: now,
            closed_at: now,
        }
    }

    /// How many dead letters it writes.
    pub fn letters(&self) -> usize {
        self.dead_letters.len() + self.result_letters.len()
    }

    /// What the ledger says of it, about, once `run_id` has committed it: rows that are refused at the commit are counted.
    pub fn entry(&self, pipeline: &str, run_id: &str) -> LedgerEntry {
        let mut landed = BTreeMap::new();
        for changelog in self.landing.iter().filter(|changelog| !changelog.is_empty()) {
            *landed.entry(changelog.table.name.clone()).or_default() += changelog.len() as i64;
        }
        let results = self.results.iter().map(|changes| {
            let rows = changes.upserts.num_rows() + changes.deletes.num_rows();
            (changes.table.name.clone(), rows as i64)
        });
        let closed_at = micros(self.closed_at);
        LedgerEntry {
            pipeline: pipeline.to_owned(),
            queue: self.queue.clone(),
            epoch: self.epoch,
            run_id: run_id.to_owned(),
            offsets: self.offsets.clone(),
            landed,
            results: results.collect(),
            dead_letters: self.letters() as i64,
            watermark: self.watermark,
            opened_at: micros(self.opened_at),
            closed_at,
            committed_at: closed_at,
        }
    }
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
