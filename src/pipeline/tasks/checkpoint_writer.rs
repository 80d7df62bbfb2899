//! Copies the ledger to checkpoints, every interval and at shutdown.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::counter;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::checkpoint::{CheckpointConfig, CheckpointError, Checkpoints};
use crate::model::{Epoch, LedgerEntry};
use crate::pipeline::error::PipelineError;
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::tasks::background::BackgroundTask;
use crate::resilience::{Failpoint, chain, failpoint};
use crate::sink::postgres::LedgerReader;
use crate::sink::{LedgerRow, SinkError};
use crate::telemetry::{Condition, Health, names};

/// Epochs that one file takes at most.
const EPOCHS_PER_FILE: usize = 10_000;

/// A checkpoint that could not be made; processing goes on.
#[derive(Debug, thiserror::Error)]
enum MissedCheckpoint {
    #[error("the ledger can't be read for a checkpoint")]
    Ledger(#[from] SinkError),
    #[error("a checkpoint can't be written")]
    Checkpoint(#[from] CheckpointError),
}

/// Also writes a last checkpoint when it is stopped.
///
/// # Errors
/// If a configuration is wrong.
pub(crate) fn spawn(
    access: &PostgresAccess,
    config: &CheckpointConfig,
    health: &Health,
) -> Result<BackgroundTask, PipelineError> {
    let writer = CheckpointWriter {
        // A connection of its own: a slow checkpoint must not delay a commit.
        ledger: access.ledger_reader()?,
        checkpoints: Checkpoints::open(config, access.pipeline())?,
        pipeline: access.pipeline().to_owned(),
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
        match writer.checkpoint().await {
            Ok(()) => health.clear(Condition::Checkpoint),
            Err(missed) => {
                error!(
                    error = chain(&missed),
                    "checkpoint missed; committed data is safe in the ledger"
                );
                counter!(names::CHECKPOINT_ERRORS).increment(1);
                health.degrade(Condition::Checkpoint, chain(&missed));
            }
        }
        if is_last {
            return;
        }
    }
}

struct CheckpointWriter {
    ledger: LedgerReader,
    checkpoints: Checkpoints,
    pipeline: String,
    /// The newest epoch in a checkpoint, once it is known.
    written: Option<Epoch>,
    /// Entries of the schema registry that its file has.
    written_schema: usize,
}

impl CheckpointWriter {
    async fn checkpoint(&mut self) -> Result<(), MissedCheckpoint> {
        if self.written.is_none() {
            self.written = self.checkpoints.newest().await?;
        }
        loop {
            let rows = self.ledger.committed_epochs(self.written, EPOCHS_PER_FILE).await?;
            let Some(last) = rows.last().map(|row| row.epoch) else { break };
            let entries: Vec<LedgerEntry> = rows.into_iter().map(|row| self.entry(row)).collect();
            failpoint(Failpoint::CheckpointPublish);
            self.checkpoints.write(&entries).await?;
            debug!(epochs = entries.len(), last = %last, "checkpoint written");
            self.written = Some(last);
        }
        if let Some(written) = self.written {
            self.ledger.compact_ledger(written).await?;
        }
        self.checkpoint_schema().await?;
        self.checkpoints.tidy(SystemTime::now()).await?;
        Ok(())
    }

    /// The registry only grows, and is small.
    async fn checkpoint_schema(&mut self) -> Result<(), MissedCheckpoint> {
        let changes = self.ledger.schema_changes().await?;
        if changes.len() > self.written_schema {
            self.checkpoints.write_schema(&changes).await?;
            self.written_schema = changes.len();
        }
        Ok(())
    }

    fn entry(&self, row: LedgerRow) -> LedgerEntry {
        let count = |(name, count): (String, u64)| (name, count as i64);
        let results = row.results.into_iter().map(|(name, c)| (name, c.upserts + c.deletes));
        LedgerEntry {
            pipeline: self.pipeline.clone(),
            queue: row.queue,
            epoch: row.epoch,
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
}

fn micros(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
