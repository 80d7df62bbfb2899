//! Where epochs go: the Sink contract and its two implementations.
//!
//! A sink writes what one epoch holds and its own record of it (the ledger) in one transaction, and
//! tells a restarted processor where to go on. It neither computes results nor talks to the source:
//! the pipeline hands it an [`EpochCommit`] and acknowledges the messages after `commit` returned.
//!
//! Changes for a REST API go into an outbox in the same transaction, and [`rest::Delivery`] posts them.
//!
//! [`postgres::PostgresSink`] is the real one, [`memory::MemorySink`] the one for tests of other
//! parts; [`conformance`] proves that they behave alike.

pub mod conformance;
mod error;
mod history;
pub mod memory;
pub mod outbox;
pub mod postgres;
pub mod rest;

use error::ATTEMPTS_AWAY;
pub use error::{DataError, PreflightLevel, RefusedRow, ServerDetail, SinkError};
pub use history::{AcceptedRange, LedgerHistory, LedgerTraces};

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::RecordBatch;
use async_trait::async_trait;

use crate::model::{
    Changelog, CommittedEpoch, Epoch, EpochCommit, EventId, Landing, LedgerPosition, Offset,
    OffsetSet, ResultMode, Table,
};

/// A target that takes whole epochs.
///
/// Ordering: epochs are committed in rising order, one at a time; rows within one are written in
/// the order of its batches.
///
/// Idempotency: `commit` may be called again with the same epoch, after an error or after success,
/// until an epoch above it is committed; it is applied once. Another sink value (another process,
/// or a restart that did not `resume`) that comes with an epoch not above the last committed one
/// gets [`SinkError::Fenced`] and changes nothing.
///
/// Durability: when `commit` returns `Ok`, rows and ledger survive a crash of both sides. When it
/// returns an error, either nothing of the epoch is visible or all of it is; calling `commit` again
/// finds out which, so the caller never has to.
///
/// Concurrency: `&mut self`; one sink value serves one pipeline. Two processors on one pipeline are
/// a mistake that the fence turns into an error of the slower one.
///
/// Cancellation: a dropped `commit` future leaves the sink usable and the epoch in doubt, exactly
/// as after an error. The pipeline must not drop it on purpose, because the answer is lost.
#[async_trait]
pub trait Sink: Send {
    /// What logs and metrics call this sink.
    fn name(&self) -> &str;

    /// What the ledger calls this sink value: the run that commits its epochs.
    fn run_id(&self) -> &str;

    /// Reads the ledger of this pipeline and queue.
    ///
    /// The epoch and the watermark are those of the pipeline, whatever queue they came from;
    /// offsets and generations are those of the queue.
    async fn resume(&mut self) -> Result<LedgerPosition, SinkError>;

    /// The newest landed row of each key of `table`, for rebuilding a state store.
    ///
    /// Newest is by position. Deletes are included with the operation `Delete`. With `since`
    /// (microseconds since 1970), keys whose newest row has no `source_ts` or an older one are left
    /// out. Empty for a table that lands nowhere.
    ///
    /// Shape: changelogs of at most [`BOOTSTRAP_ROWS`] rows, each key once over all of them, in no
    /// particular order. The topic is empty, because landing tables don't keep it; `unchanged` is
    /// empty: values that the newest change did not carry are those of earlier ones.
    async fn each_newest(
        &mut self,
        table: &Arc<Table>,
        since: Option<i64>,
        take: TakeRows<'_>,
    ) -> Result<(), SinkError>;

    /// The same at once.
    async fn bootstrap(
        &mut self,
        table: &Arc<Table>,
        since: Option<i64>,
    ) -> Result<Vec<Changelog>, SinkError> {
        let mut newest = Vec::new();
        let take: TakeRows<'_> = &mut |rows| {
            newest.push(rows);
            ControlFlow::Continue(())
        };
        self.each_newest(table, since, take).await?;
        Ok(newest)
    }

    /// The messages of all epochs that are not whole in a state that was kept. `None` if the state is of other epochs than
    /// the ledger, or the ledger does not tell all of them any more, or one of them has landed rows of other messages.
    async fn committed_since(
        &mut self,
        kept: &CommittedEpoch,
    ) -> Result<Option<OffsetSet>, SinkError>;

    /// Shows all landed changes of these messages, and some of their neighbours', as [`Self::each_newest`], deletes
    /// included, in no particular order.
    async fn each_change(
        &mut self,
        table: &Arc<Table>,
        messages: &OffsetSet,
        take: TakeRows<'_>,
    ) -> Result<(), SinkError>;

    /// All landed changes of the rows with these keys, deletes included.
    ///
    /// Shape: `keys` has the table's key columns, as many rows as one likes; NULL finds nothing. The changes
    /// of one key are in the order of their positions. The answer is as that of [`Self::bootstrap`], and
    /// empty for a table that lands nowhere. What another sink value is committing is not seen before it is
    /// committed.
    async fn history(
        &mut self,
        table: &Arc<Table>,
        keys: &RecordBatch,
    ) -> Result<Vec<Changelog>, SinkError>;

    /// The messages of which one of these events is landed or a dead letter: what is known of messages that are older
    /// than what the ledger has exactly. Events that leave no row (a tombstone, a table that lands nowhere) are not among them, and may be processed again.
    async fn committed(&mut self, events: &[EventId]) -> Result<HashSet<Offset>, SinkError>;

    /// Rows of these changelogs that [`Self::commit`] would refuse, as far as can be told before. To be
    /// asked before they are folded: a refused row must not be part of a result. Changes nothing.
    async fn refused(&mut self, landing: &[Changelog]) -> Result<Vec<RefusedRow>, SinkError> {
        let _ = landing;
        Ok(Vec::new())
    }

    /// [`Self::refused`] looks at the rows of these tables, at least so, until that was for nothing for a while.
    fn raise_preflight(&mut self, levels: &[(String, PreflightLevel)]) {
        let _ = levels;
    }

    /// Columns of `table` of which a landing row needs the old value when its change did not carry one.
    fn needs_old_values(&self, table: &Table) -> Vec<usize> {
        (0..table.columns.len()).collect()
    }

    /// Durable when it returns `Ok`; committing the same epoch again changes nothing.
    ///
    /// A row of a result that the target refuses is left out and becomes a dead letter in the same
    /// transaction. A refused landing row is [`SinkError::RowsRefused`]: its event has to come again as a
    /// dead letter, computed without the row.
    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError>;
}

/// What takes landed rows as they come, until it has enough.
pub type TakeRows<'a> = &'a mut (dyn FnMut(Changelog) -> ControlFlow<()> + Send);

/// The most rows in one changelog of [`Sink::bootstrap`].
pub const BOOTSTRAP_ROWS: usize = 8192;
/// Rows of so many bytes are enough for one, however few they are.
pub const BOOTSTRAP_BYTES: usize = 32 << 20;

/// What the ledger says about one epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerRow {
    pub epoch: Epoch,
    pub queue: String,
    /// Names the sink value that committed the epoch.
    pub run_id: String,
    pub offsets: OffsetSet,
    /// Landed rows per source table.
    pub landed: BTreeMap<String, u64>,
    /// Changes per result.
    pub results: BTreeMap<String, ResultCounts>,
    pub dead_letters: u64,
    /// Microseconds since 1970.
    pub watermark: Option<i64>,
    pub opened_at: SystemTime,
    pub closed_at: SystemTime,
    /// The target's own clock, read when it wrote the ledger row.
    pub committed_at: SystemTime,
}

/// How many rows of a result an epoch wrote and removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ResultCounts {
    pub upserts: u64,
    pub deletes: u64,
}

/// Landed rows per table of an epoch; tables without a landing target don't count.
fn landed_counts(commit: &EpochCommit) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for changelog in &commit.landing {
        if changelog.table.options.landing != Landing::None && !changelog.is_empty() {
            *counts.entry(changelog.table.name.clone()).or_default() += changelog.len() as u64;
        }
    }
    counts
}

/// Changes per result of an epoch.
fn result_counts(commit: &EpochCommit) -> BTreeMap<String, ResultCounts> {
    let mut counts: BTreeMap<String, ResultCounts> = BTreeMap::new();
    for changes in commit.results.iter().filter(|changes| !changes.is_empty()) {
        let count = counts.entry(changes.table.name.clone()).or_default();
        count.upserts += changes.upserts.num_rows() as u64;
        count.deletes += match changes.table.mode {
            ResultMode::Append => 0,
            ResultMode::Keyed { .. } => changes.deletes.num_rows() as u64,
        };
    }
    counts
}

/// A random name for one sink value, in the form of a version 4 UUID.
fn new_run_id() -> String {
    let bits: u128 = rand::random();
    let (version, variant) = (0x4 << 76, 0b10 << 62);
    let bits = (bits & !(0xf << 76) & !(0b11 << 62)) | version | variant;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::new_run_id;

    #[test]
    fn run_ids_are_random_version_4_uuids() {
        let (first, second) = (new_run_id(), new_run_id());
        assert_ne!(first, second);
        assert_eq!((first.len(), &first[14..15]), (36, "4"));
        assert!("89ab".contains(&first[19..20]), "{first}");
    }
}
