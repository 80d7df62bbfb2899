//! The loop: collect → drop what is known → decode → divert what is late → read back what is needed → fold
//! → SQL → commit → ack → checkpoint.
//!
//! This is the only module that knows all parts. `start` brings a session up from the ledger,
//! `batch` collects, `epoch` computes, `closed_windows` diverts, `late` and `read_back` bring rows back that
//! ttl dropped, `committer` writes and acknowledges, `delivering` posts what is for an API, `checkpointing`
//! copies the ledger to Parquet. A session ends at shutdown, at the end of a file, when the SQL was edited
//! (`reload`), when events have shown a column that a file waits for or a new table (`registered`), when a target
//! that a file waits for fits again (`fitting`), when a query fails or the target refuses
//! rows (`narrowing`), or when another processor has committed in the meantime;
//! in these last cases the next session starts from the ledger. `rehearsal` runs a processor without queue and target.

mod altering;
mod batch;
mod checkpointing;
mod closed_windows;
mod committer;
mod delivering;
mod doubted_times;
mod epoch;
mod fitting;
mod late;
mod letters;
mod mending;
mod narrowing;
mod outdated;
mod patience;
mod read_back;
mod registered;
mod rehearsal;
mod reload;
mod replaying;
mod schema_changes;
mod start;
mod waiting;

pub use batch::BatchLimits;
pub use committer::CommitError;
pub use letters::DeadLetterConfig;
pub use rehearsal::Rehearsal;
pub use start::{Sql, load_sql, load_sql_with};

use std::num::NonZeroUsize;

use bytesize::ByteSize;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::config::Config;
use crate::decode::DecodeError;
use crate::model::{Message, Offset};
use crate::resilience::Recovery;
use crate::sink::{Sink, SinkError};
use crate::source::file::FileSource;
use crate::source::solace::{SolaceConfig, SolaceSource};
use crate::source::{Source, SourceConfig, SourceError, SourceEvent};
use crate::state::{Excess, StateError};
use crate::telemetry::{Condition, Health, Heartbeat};
use crate::transform::{SqlError, TransformError};
use altering::Altering;
use batch::{Collected, Collector};
use checkpointing::Checkpointing;
use committer::{Committer, Jobs};
use delivering::Delivering;
use epoch::Processor;
use fitting::Fitting;
use letters::Letters;
use narrowing::Narrowing;
use reload::Edits;
use replaying::Replays;

/// Why the pipeline stopped. Everything that waiting can heal was waited for before.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("{} problem(s) in the SQL files:\n  {}", .0.len(), lines(.0))]
    Sql(Vec<SqlError>),
    #[error("the source stopped")]
    Source(#[from] SourceError),
    #[error("the target can't be used")]
    Sink(#[from] SinkError),
    #[error("the processor stopped committing")]
    Commit(#[from] CommitError),
    #[error("an epoch can't be decoded")]
    Decode(#[from] DecodeError),
    #[error("the state stores failed")]
    State(#[from] StateError),
    #[error("a transform failed")]
    Transform(#[from] TransformError),
    #[error("checkpoints can't be opened")]
    Checkpoint(#[from] CheckpointError),
    #[error("a part of the program panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

fn lines(errors: &[SqlError]) -> String {
    errors.iter().map(SqlError::to_string).collect::<Vec<_>>().join("\n  ")
}

/// How a session ended.
#[derive(Debug)]
enum Ended {
    Shutdown,
    /// The source has no more messages, and all of them are committed.
    Drained,
    /// Another processor committed since the state was loaded.
    Overtaken,
    /// A query failed; what is known about it decides how the messages are taken the next time.
    QueryFailed,
    /// The target refused landing rows at the commit; their events come again as dead letters.
    RowsRefused,
    /// Somebody wants refused rows of results put right, which a start does.
    RowsAwaited,
    /// The SQL files were edited, and all that was processed with the old ones is committed.
    Edited(Box<Sql>),
    /// Events have shown a column that a file waits for, or a table that no file declares; or a target that a
    /// file waits for fits.
    Learned,
}

/// Runs until shutdown or until a file source has ended.
///
/// # Errors
/// What only an operator can heal; nothing is lost, and a restart goes on from the ledger.
pub async fn run(
    config: &Config,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), PipelineError> {
    let texts = reload::texts(&config.sql.folder).await;
    let policy = config.decode.unknown_tables;
    let sql = load_sql_with(&config.sql.folder, &config.xml, policy).await;
    let mut sql = sql.map_err(PipelineError::Sql)?;
    let mut lasting = Lasting {
        edits: Edits::watch(config, (&sql, texts)),
        replays: Replays::watch(config),
        narrowing: Narrowing::default(),
        altering: Altering::default(),
        has_started: false,
    };
    loop {
        let ended = match &config.source {
            SourceConfig::Solace(solace) => {
                let source = SolaceSource::start(buffering(solace, config.batch.max_bytes));
                let source = (source, solace.queue.as_str());
                run_session(config, (&sql, &mut lasting), source, &health, &shutdown).await?
            }
            SourceConfig::File(file) => {
                let source = FileSource::open(file)?;
                let queue = file.path.display().to_string();
                run_session(config, (&sql, &mut lasting), (source, &queue), &health, &shutdown)
                    .await?
            }
        };
        match ended {
            Ended::Shutdown | Ended::Drained => return Ok(()),
            Ended::QueryFailed | Ended::RowsRefused | Ended::RowsAwaited | Ended::Learned => {}
            Ended::Edited(edited) => sql = *edited,
            Ended::Overtaken => warn!(
                "another processor has committed since the start: starting over from its ledger"
            ),
        }
    }
}

/// So much waits that the next batch is there when one is taken, however large its messages are.
fn buffering(solace: &SolaceConfig, batch: NonZeroUsize) -> SolaceConfig {
    let batch = ByteSize(batch.get() as u64);
    SolaceConfig { max_buffered: solace.max_buffered.or(Some(batch)), ..solace.clone() }
}

/// What sessions leave to the next one.
struct Lasting {
    edits: Edits,
    replays: Replays,
    narrowing: Narrowing,
    altering: Altering,
    /// A start has succeeded: from now on nothing but its operator and another processor end this one.
    has_started: bool,
}

async fn run_session<S: Source + 'static>(
    config: &Config,
    (sql, lasting): (&Sql, &mut Lasting),
    (source, queue): (S, &str),
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<Ended, PipelineError> {
    let acknowledger = source.acknowledger();
    let mut collector = Collector::new(source, config.batch.limits(config.source.max_unacked()));
    if let Some(ended) = wait_for_queue(&mut collector, health, shutdown).await? {
        return Ok(ended);
    }
    let started = start::start(config, (sql, lasting), queue, (health, shutdown)).await?;
    let Some(started) = started else { return Ok(Ended::Shutdown) };
    lasting.has_started = true;
    lasting.altering.note(started.has_failed_to_alter);
    let sink: Box<dyn Sink> = Box::new(started.sink);
    let results = started.processor.results();
    let (delivering, backlog) = Delivering::spawn(config, &results, health)?;
    let breaker = config.sink.postgres.breaker();
    let (committer, jobs) = Committer::new(sink, acknowledger, (health.clone(), breaker));
    let (letters, publishing) = Letters::spawn(config, health);
    let committer = committer.with_backlog(backlog).with_publishing(publishing);
    let ending = shutdown.child_token();
    let committer = tokio::spawn(committer.run(ending.clone()));
    let checkpoints = Checkpoints::open(&config.checkpoint, &config.pipeline)?;
    let checkpointing = Checkpointing::spawn(config, checkpoints, queue, health)?;
    let fitting = Fitting::watch(config, started.waits_for_target)?;
    let processor = started.processor;
    let mut session = Session { collector, processor, jobs, fitting, has_stood_by: false };
    // Boxed, because every caller's future would hold it.
    let processed = Box::pin(session.run(lasting, health, shutdown)).await;
    if processed.is_err() {
        // Nobody waits for a target that is away, to hear of another error.
        ending.cancel();
    }
    let has_stood_by = session.has_stood_by;
    // The committer ends when nobody can send to it; the source lives until it has acknowledged.
    let Session { collector, jobs, .. } = session;
    drop(jobs);
    let committed = committer.await.map_err(PipelineError::Panicked)?;
    delivering.finish().await;
    letters.finish().await;
    health.clear(Condition::DeadLetters);
    checkpointing.finish().await;
    collector.into_source().close().await;
    // A committer that stopped is why processing stopped, so its error is the one to tell.
    match committed {
        Err(error) if is_overtaken(&error, has_stood_by) => Ok(Ended::Overtaken),
        Err(CommitError { source: SinkError::RowsRefused { rows }, .. }) => {
            lasting.narrowing.refused(rows);
            Ok(Ended::RowsRefused)
        }
        Err(error) => Err(error.into()),
        Ok(()) => processed,
    }
}

/// Fenced at the first commit, or after standing by: another processor had its turn, and a new start
/// from its ledger heals that. Else somebody commits while this one works, and one must stop.
fn is_overtaken(error: &CommitError, has_stood_by: bool) -> bool {
    matches!(error.source, SinkError::Fenced { .. }) && (has_stood_by || !error.had_committed)
}

/// State is loaded only when the queue is ours: who stands by behind another processor would
/// load a state that this one is still changing.
async fn wait_for_queue<S: Source>(
    collector: &mut Collector<S>,
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<Option<Ended>, PipelineError> {
    health.block(Condition::Source, "connecting");
    let mut heartbeat = Heartbeat::start();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Some(Ended::Shutdown)),
            () = heartbeat.beat() => {}
            up = collector.wait_until_up(health) => {
                if !up? {
                    return Ok(Some(Ended::Drained));
                }
                health.clear(Condition::Source);
                return Ok(None);
            }
        }
    }
}

/// What a session goes round with.
struct Session<S> {
    collector: Collector<S>,
    processor: Processor,
    jobs: Jobs,
    fitting: Fitting,
    /// Another consumer had the queue for a while.
    has_stood_by: bool,
}

impl<S: Source> Session<S> {
    /// Batch by batch, until something ends the session.
    async fn run(
        &mut self,
        lasting: &mut Lasting,
        health: &Health,
        shutdown: &CancellationToken,
    ) -> Result<Ended, PipelineError> {
        let mut in_flight = self.jobs.in_flight();
        let mut heartbeat = Heartbeat::start();
        loop {
            if let Some(excess) = self.processor.excess() {
                return Ok(self.wait_for_relief(&excess, lasting, (health, shutdown)).await);
            }
            let collected = tokio::select! {
                biased;
                // On a quiet queue nothing else would tell. Its own result says why it stopped.
                () = self.jobs.closed() => return Ok(Ended::Shutdown),
                // Messages of the open batch are left to the broker, which brings them again.
                sql = lasting.edits.next() => return Ok(Ended::Edited(Box::new(sql))),
                () = lasting.replays.asked() => {
                    match Box::pin(self.replay(lasting, shutdown)).await? {
                        Some(ended) => return Ok(ended),
                        None => continue,
                    }
                }
                () = heartbeat.beat() => continue,
                () = lasting.altering.due() => return Ok(Ended::Learned),
                () = self.fitting.fits() => return Ok(Ended::Learned),
                collected = self.collector.next(&mut in_flight, shutdown) => collected?,
            };
            let messages = match collected {
                Collected::Batch(messages) => messages,
                Collected::Ended => return Ok(Ended::Drained),
                Collected::Cancelled => return Ok(Ended::Shutdown),
                Collected::Event(event) => {
                    self.has_stood_by |= matches!(event, SourceEvent::Standby);
                    report(&event, health);
                    continue;
                }
            };
            if let Some(ended) = self.process(messages, &mut lasting.narrowing).await? {
                return Ok(ended);
            }
        }
    }

    /// Takes no more messages, so that the broker keeps them, until somebody acts.
    async fn wait_for_relief(
        &self,
        excess: &Excess,
        lasting: &mut Lasting,
        (health, shutdown): (&Health, &CancellationToken),
    ) -> Ended {
        error!(%excess, "no more messages are taken: the memory limit is reached");
        health.block(Condition::Memory, excess.to_string());
        let ended = tokio::select! {
            biased;
            () = self.jobs.closed() => Ended::Shutdown,
            () = shutdown.cancelled() => Ended::Shutdown,
            sql = lasting.edits.next() => Ended::Edited(Box::new(sql)),
        };
        health.clear(Condition::Memory);
        ended
    }

    /// Dead letters that somebody wants processed again, until none is left.
    async fn replay(
        &mut self,
        lasting: &mut Lasting,
        shutdown: &CancellationToken,
    ) -> Result<Option<Ended>, PipelineError> {
        loop {
            // What is being committed may be newer than what is to come back.
            if !self.all_committed(shutdown).await {
                return Ok(Some(Ended::Shutdown));
            }
            let asked = lasting.replays.take(lasting.narrowing.limit()).await;
            if asked.is_empty() {
                // After events, which may bring newer versions.
                let refused = lasting.replays.take_refused().await;
                if refused.is_empty() {
                    return Ok(lasting.replays.has_rows().await.then_some(Ended::RowsAwaited));
                }
                if !self.jobs.send(self.processor.resend(&refused)).await {
                    return Ok(Some(Ended::Shutdown));
                }
                continue;
            }
            let offsets: Vec<Offset> = asked.iter().map(|request| request.message.offset).collect();
            let narrowing = &mut lasting.narrowing;
            let job = match lasting.replays.given_up() {
                Some(reason) => Ok(Some(self.processor.refuse(&asked, reason))),
                None => self.processor.replay(asked, narrowing.reasons()).await,
            };
            let job = match job {
                Ok(Some(job)) => job,
                Ok(None) => return Ok(Some(Ended::Shutdown)),
                Err(PipelineError::Transform(error))
                    if error.recovery() == Recovery::DeadLetter =>
                {
                    if let Err(error) = narrowing.failed(&offsets, error) {
                        lasting.replays.give_up(&error.into());
                    }
                    return Ok(Some(Ended::QueryFailed));
                }
                Err(error) => return Err(error),
            };
            narrowing.succeeded(&offsets);
            if !(self.jobs.send(job).await && self.all_committed(shutdown).await) {
                // The committer stopped; its own result says why.
                return Ok(Some(Ended::Shutdown));
            }
            lasting.narrowing.forget(&offsets);
            if self.processor.has_learned() {
                return Ok(Some(Ended::Learned));
            }
        }
    }

    /// `false`: the committer has stopped, or shutdown came first.
    async fn all_committed(&self, shutdown: &CancellationToken) -> bool {
        let mut in_flight = self.jobs.in_flight();
        while !in_flight.is_empty() {
            tokio::select! {
                () = self.jobs.closed() => return false,
                () = shutdown.cancelled() => return false,
                () = in_flight.changed() => {}
            }
        }
        true
    }

    /// One epoch, or several while a failing query is looked into.
    async fn process(
        &mut self,
        mut messages: Vec<Message>,
        narrowing: &mut Narrowing,
    ) -> Result<Option<Ended>, PipelineError> {
        while !messages.is_empty() {
            let part = narrowing.next_part(&mut messages);
            let offsets: Vec<Offset> = part.iter().map(|message| message.offset).collect();
            let job = match self.processor.process(part, narrowing.reasons()).await {
                Ok(Some(job)) => job,
                Ok(None) => return Ok(Some(Ended::Shutdown)),
                Err(PipelineError::Transform(error))
                    if error.recovery() == Recovery::DeadLetter =>
                {
                    narrowing.failed(&offsets, error)?;
                    return Ok(Some(Ended::QueryFailed));
                }
                Err(error) => return Err(error),
            };
            narrowing.succeeded(&offsets);
            if !self.jobs.send(job).await {
                // The committer stopped; its own result says why.
                return Ok(Some(Ended::Shutdown));
            }
            if self.processor.has_learned() {
                return Ok(Some(Ended::Learned));
            }
        }
        Ok(None)
    }
}

fn report(event: &SourceEvent, health: &Health) {
    match event {
        SourceEvent::Message(_) => {}
        SourceEvent::Up => {
            info!("the queue is bound");
            health.clear(Condition::Source);
        }
        SourceEvent::Standby => {
            info!("another consumer is reading the queue: standing by");
            health.block(Condition::Source, "standing by: another consumer is reading the queue");
        }
        SourceEvent::Down { reason } => {
            warn!(reason, "the queue is not bound; reconnecting");
            health.block(Condition::Source, reason.as_str());
        }
    }
}

#[cfg(test)]
mod tests;
