//! Copies the ledger to checkpoints, every interval and at shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::Either;
use metrics::counter;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::checkpoint::{CheckpointConfig, CheckpointError, Checkpoints};
use crate::model::{Epoch, LedgerEntry};
use crate::pipeline::error::PipelineError;
use crate::pipeline::history::{CompareError, Comparison, lost_in_checkpoints};
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::tasks::background::BackgroundTask;
use crate::resilience::{Failpoint, chain, failpoint};
use crate::sink::postgres::{LedgerLimit, LedgerReader};
use crate::sink::{LedgerRow, SinkError};
use crate::state::StateFolder;
use crate::telemetry::{Condition, Health, names};

/// After this time without an answer the storage, or the ledger, is taken to be away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Epochs that one file takes at most, and about the most ranges of offsets in it.
const EPOCHS_PER_FILE: usize = 10_000;
const RANGES_PER_FILE: usize = 200_000;
/// Epochs that are read at a time.
const EPOCHS_PER_READ: usize = 500;
/// What waits in the ledger for a checkpoint, at most.
const WAITING: LedgerLimit = LedgerLimit { epochs: 100_000, bytes: 256 << 20 };

/// The most epochs that wait in the ledger for a state that does not reach the disk.
const MOST_BEHIND_STATE: u64 = 50_000;

/// A checkpoint that could not be made; processing goes on.
#[derive(Debug, thiserror::Error)]
enum MissedCheckpoint {
    #[error("the ledger can't be read for a checkpoint")]
    Ledger(#[from] SinkError),
    #[error("a checkpoint can't be written")]
    Checkpoint(#[from] CheckpointError),
    #[error("the ledger can't be compared with the checkpoints")]
    Compare(#[from] CompareError),
    #[error("the checkpoints have epochs that the ledger lacks")]
    Forgotten,
}

/// What the writer works with.
#[derive(Clone, Copy)]
pub(crate) struct CheckpointInputs<'a> {
    pub(crate) access: &'a PostgresAccess,
    pub(crate) config: &'a CheckpointConfig,
    pub(crate) health: &'a Health,
    pub(crate) state_folder: &'a Arc<StateFolder>,
}

/// What is still to be found out about the history, once the checkpoints can be read.
pub(crate) struct Comparing {
    pub(crate) comparison: Comparison,
    /// Cancelled if the ledger lacks epochs that the checkpoints have.
    pub(crate) is_forgotten: CancellationToken,
}

/// Also writes a last checkpoint when it is stopped. Storage that is away stops nothing, now or later.
///
/// # Errors
/// If a configuration is wrong. Storage that is away is tried again.
pub(crate) fn spawn(
    CheckpointInputs { access, config, health, state_folder }: CheckpointInputs<'_>,
    comparing: Comparing,
) -> Result<BackgroundTask, PipelineError> {
    let writer = CheckpointWriter {
        state_folder: Arc::clone(state_folder),
        // A connection of its own: a slow checkpoint must not delay a commit.
        ledger: access.ledger_reader()?,
        checkpoints: Checkpoints::new(config, access.pipeline())?,
        pipeline: access.pipeline().to_owned(),
        comparing,
        written: None,
        written_schema: 0,
    };
    let (interval, health) = (config.interval, health.clone());
    Ok(BackgroundTask::spawn("checkpoints", move |stop| run(writer, interval, health, stop)))
}

async fn run(
    mut writer: CheckpointWriter,
    interval: Duration,
    health: Health,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        match watched(&health, writer.checkpoint()).await {
            Ok(()) => health.clear(Condition::Checkpoint),
            Err(missed) => {
                error!(
                    error = chain(&missed),
                    "checkpoint missed; committed data is safe in the ledger"
                );
                counter!(names::CHECKPOINT_ERRORS).increment(1);
                health.degrade(Condition::Checkpoint, chain(&missed));
                if matches!(missed, MissedCheckpoint::Forgotten) {
                    return;
                }
                writer.bound().await;
            }
        }
        if is_last {
            return;
        }
    }
}

/// A checkpoint whose storage is silent is said to be so, before it is given up.
async fn watched<T>(health: &Health, checkpoint: impl Future<Output = T>) -> T {
    let checkpoint = std::pin::pin!(checkpoint);
    match futures::future::select(checkpoint, std::pin::pin!(tokio::time::sleep(PATIENCE))).await {
        Either::Left((done, _)) => done,
        Either::Right(((), checkpoint)) => {
            let silent = format!("no answer for {} s, waiting", PATIENCE.as_secs());
            health.degrade(Condition::Checkpoint, silent);
            checkpoint.await
        }
    }
}

struct CheckpointWriter {
    state_folder: Arc<StateFolder>,
    ledger: LedgerReader,
    checkpoints: Checkpoints,
    pipeline: String,
    comparing: Comparing,
    /// The newest epoch in a checkpoint, once it is known.
    written: Option<Epoch>,
    /// Entries of the schema registry that its file has.
    written_schema: usize,
}

impl CheckpointWriter {
    async fn checkpoint(&mut self) -> Result<(), MissedCheckpoint> {
        let Self { ledger, checkpoints, pipeline, comparing, written, written_schema, .. } = self;
        if comparing.comparison != Comparison::Done {
            let found = lost_in_checkpoints(checkpoints, ledger).await?;
            if !found.lost.is_empty() {
                comparing.is_forgotten.cancel();
                return Err(MissedCheckpoint::Forgotten);
            }
            comparing.comparison = Comparison::Done;
        }
        if written.is_none() {
            *written = checkpoints.newest().await?;
        }
        loop {
            let entries = next_file(ledger, pipeline, *written).await?;
            let Some(last) = entries.last().map(|entry| entry.epoch) else { break };
            failpoint(Failpoint::CheckpointPublish);
            checkpoints.write(&entries).await?;
            debug!(epochs = entries.len(), last = %last, "checkpoint written");
            *written = Some(last);
        }
        if let Some(Epoch(written)) = *written {
            // A start reads what came after the state on disk, the epoch of the state itself included.
            let kept = self.state_folder.flushed().checked_sub(1);
            let kept = kept.filter(|kept| written.saturating_sub(*kept) < MOST_BEHIND_STATE);
            ledger.compact_ledger(Epoch(kept.map_or(written, |kept| kept.min(written)))).await?;
        }
        // The registry only grows, and is small.
        let changes = ledger.schema_changes().await?;
        if changes.len() > *written_schema {
            checkpoints.write_schema(&changes).await?;
            *written_schema = changes.len();
        }
        checkpoints.tidy(SystemTime::now()).await?;
        Ok(())
    }

    /// Keeps the ledger small while there are no checkpoints: offsets of old epochs are merged.
    async fn bound(&mut self) {
        match self.ledger.bound(WAITING).await {
            Ok(0) => {}
            Ok(epochs) => {
                counter!(names::SKIPPED_CHECKPOINTS).increment(epochs);
                error!(
                    epochs,
                    "epochs will be in no checkpoint: the storage is away for too long, and the ledger stays small"
                );
            }
            Err(error) => error!(error = chain(&error), "the ledger can't be compacted"),
        }
    }
}

/// The entries above `written` that one file takes.
async fn next_file(
    ledger: &mut LedgerReader,
    pipeline: &str,
    written: Option<Epoch>,
) -> Result<Vec<LedgerEntry>, SinkError> {
    let (mut entries, mut ranges): (Vec<LedgerEntry>, usize) = (Vec::new(), 0);
    while entries.len() < EPOCHS_PER_FILE && ranges < RANGES_PER_FILE {
        let after = entries.last().map(|entry| entry.epoch).or(written);
        let rows = ledger.committed_epochs(after, EPOCHS_PER_READ).await?;
        let is_last = rows.len() < EPOCHS_PER_READ;
        ranges += rows.iter().map(|row| row.offsets.range_count()).sum::<usize>();
        entries.extend(rows.into_iter().map(|row| entry(pipeline, row)));
        if is_last {
            break;
        }
    }
    Ok(entries)
}

fn entry(pipeline: &str, row: LedgerRow) -> LedgerEntry {
    let count = |(name, count): (String, u64)| (name, count as i64);
    let results = row.results.into_iter().map(|(name, c)| (name, c.upserts + c.deletes));
    LedgerEntry {
        pipeline: pipeline.to_owned(),
        queue: row.queue,
        epoch: row.epoch,
        run_id: row.run_id,
        offsets: row.offsets,
        landed: row.landed.into_iter().map(count).collect::<BTreeMap<_, _>>(),
        results: results.map(count).collect(),
        dead_letters: row.dead_letters as i64,
        watermark: row.watermark,
        opened_at: micros(row.opened_at),
        closed_at: micros(row.closed_at),
        committed_at: micros(row.committed_at),
    }
}

fn micros(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
