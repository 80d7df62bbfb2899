//! One session: from the ledger to shutdown, the end of the source, or a reason to start over from the ledger.
//!
//! `start` brings it up from the ledger, `batch` collects, `committer` writes and acknowledges. It ends at
//! shutdown, at the end of a file, when the SQL was edited, when events have shown a column that a file waits for
//! or a new table, when a target that a file waits for fits again, when a query fails or the target refuses rows,
//! or when another processor has committed in the meantime.

mod batch;
pub(super) mod carry_over;
pub(super) mod committer;
pub(super) mod resume;
mod start;

use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::checkpoint::Checkpoints;
use crate::config::Config;
use crate::model::{Message, Offset};
use crate::pipeline::epoch::poison_search::PoisonSearch;
use crate::pipeline::epoch::processor::Processor;
use crate::pipeline::error::{CommitError, PipelineError};
use crate::pipeline::schema::target_compatibility::TargetWatcher;
use crate::pipeline::sql_folder::Sql;
use crate::pipeline::tasks::checkpoint_writer::CheckpointWriter;
use crate::pipeline::tasks::dead_letter_publisher::DeadLetterPublisher;
use crate::pipeline::tasks::outbox_delivery::OutboxDelivery;
use crate::resilience::Recovery;
use crate::sink::{Sink, SinkError};
use crate::source::{Source, SourceEvent};
use crate::state::MemoryExcess;
use crate::telemetry::{Condition, Health, Heartbeat};
use batch::{Collected, Collector, report};
use carry_over::CarryOver;
use committer::{Committer, Jobs};

/// How a session ended.
#[derive(Debug)]
pub(in crate::pipeline) enum Ended {
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

pub(in crate::pipeline) async fn run_session<S: Source + 'static>(
    config: &Config,
    (sql, carry_over): (&Sql, &mut CarryOver),
    (source, queue): (S, &str),
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<Ended, PipelineError> {
    let acknowledger = source.acknowledger();
    let mut collector = Collector::new(source, config.batch.limits(config.source.max_unacked()));
    if let Some(ended) = wait_for_queue(&mut collector, health, shutdown).await? {
        return Ok(ended);
    }
    let started = start::start(config, (sql, carry_over), queue, (health, shutdown)).await?;
    let Some(started) = started else { return Ok(Ended::Shutdown) };
    carry_over.has_started = true;
    carry_over.altering.note(started.has_failed_to_alter);
    let sink: Box<dyn Sink> = Box::new(started.sink);
    let results = started.processor.results();
    let (delivering, backlog) = OutboxDelivery::spawn(config, &results, health)?;
    let breaker = config.sink.postgres.breaker();
    let (committer, jobs) = Committer::new(sink, acknowledger, (health.clone(), breaker));
    let (letters, publishing) = DeadLetterPublisher::spawn(config, health);
    let committer = committer.with_backlog(backlog).with_publishing(publishing);
    let ending = shutdown.child_token();
    let committer = tokio::spawn(committer.run(ending.clone()));
    let checkpoints = Checkpoints::open(&config.checkpoint, &config.pipeline)?;
    let checkpointing = CheckpointWriter::spawn(config, checkpoints, health)?;
    let fitting = TargetWatcher::watch(config, started.waits_for_target)?;
    let processor = started.processor;
    let mut session = Session { collector, processor, jobs, fitting, has_stood_by: false };
    // Boxed, because every caller's future would hold it.
    let processed = Box::pin(session.run(carry_over, health, shutdown)).await;
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
            carry_over.poison_search.refused(rows);
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
    fitting: TargetWatcher,
    /// Another consumer had the queue for a while.
    has_stood_by: bool,
}

impl<S: Source> Session<S> {
    /// Batch by batch, until something ends the session.
    async fn run(
        &mut self,
        carry_over: &mut CarryOver,
        health: &Health,
        shutdown: &CancellationToken,
    ) -> Result<Ended, PipelineError> {
        let mut in_flight = self.jobs.in_flight();
        let mut heartbeat = Heartbeat::start();
        loop {
            if let Some(excess) = self.processor.excess() {
                return Ok(self.wait_for_relief(&excess, carry_over, (health, shutdown)).await);
            }
            let collected = tokio::select! {
                biased;
                // On a quiet queue nothing else would tell. Its own result says why it stopped.
                () = self.jobs.closed() => return Ok(Ended::Shutdown),
                // Messages of the open batch are left to the broker, which brings them again.
                sql = carry_over.edits.next() => return Ok(Ended::Edited(Box::new(sql))),
                () = carry_over.replays.asked() => {
                    match Box::pin(self.replay(carry_over, shutdown)).await? {
                        Some(ended) => return Ok(ended),
                        None => continue,
                    }
                }
                () = heartbeat.beat() => continue,
                () = carry_over.altering.due() => return Ok(Ended::Learned),
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
            if let Some(ended) = self.process(messages, &mut carry_over.poison_search).await? {
                return Ok(ended);
            }
        }
    }

    /// Takes no more messages, so that the broker keeps them, until somebody acts.
    async fn wait_for_relief(
        &self,
        excess: &MemoryExcess,
        carry_over: &mut CarryOver,
        (health, shutdown): (&Health, &CancellationToken),
    ) -> Ended {
        error!(%excess, "no more messages are taken: the memory limit is reached");
        health.block(Condition::Memory, excess.to_string());
        let ended = tokio::select! {
            biased;
            () = self.jobs.closed() => Ended::Shutdown,
            () = shutdown.cancelled() => Ended::Shutdown,
            sql = carry_over.edits.next() => Ended::Edited(Box::new(sql)),
        };
        health.clear(Condition::Memory);
        ended
    }

    /// Dead letters that somebody wants processed again, until none is left.
    async fn replay(
        &mut self,
        carry_over: &mut CarryOver,
        shutdown: &CancellationToken,
    ) -> Result<Option<Ended>, PipelineError> {
        loop {
            // What is being committed may be newer than what is to come back.
            if !self.all_committed(shutdown).await {
                return Ok(Some(Ended::Shutdown));
            }
            let asked = carry_over.replays.take(carry_over.poison_search.limit()).await;
            if asked.is_empty() {
                // After events, which may bring newer versions.
                let refused = carry_over.replays.take_refused().await;
                if refused.is_empty() {
                    return Ok(carry_over.replays.has_rows().await.then_some(Ended::RowsAwaited));
                }
                if !self.jobs.send(self.processor.resend(&refused)).await {
                    return Ok(Some(Ended::Shutdown));
                }
                continue;
            }
            let offsets: Vec<Offset> = asked.iter().map(|request| request.message.offset).collect();
            let poison_search = &mut carry_over.poison_search;
            let job = match carry_over.replays.given_up() {
                Some(reason) => Ok(Some(self.processor.refuse(&asked, reason))),
                None => self.processor.replay(asked, poison_search.reasons()).await,
            };
            let job = match job {
                Ok(Some(job)) => job,
                Ok(None) => return Ok(Some(Ended::Shutdown)),
                Err(PipelineError::Transform(error))
                    if error.recovery() == Recovery::DeadLetter =>
                {
                    if let Err(error) = poison_search.failed(&offsets, error) {
                        carry_over.replays.give_up(&error.into());
                    }
                    return Ok(Some(Ended::QueryFailed));
                }
                Err(error) => return Err(error),
            };
            poison_search.succeeded(&offsets);
            if !(self.jobs.send(job).await && self.all_committed(shutdown).await) {
                // The committer stopped; its own result says why.
                return Ok(Some(Ended::Shutdown));
            }
            carry_over.poison_search.forget(&offsets);
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
        poison_search: &mut PoisonSearch,
    ) -> Result<Option<Ended>, PipelineError> {
        while !messages.is_empty() {
            let part = poison_search.next_part(&mut messages);
            let offsets: Vec<Offset> = part.iter().map(|message| message.offset).collect();
            let job = match self.processor.process(part, poison_search.reasons()).await {
                Ok(Some(job)) => job,
                Ok(None) => return Ok(Some(Ended::Shutdown)),
                Err(PipelineError::Transform(error))
                    if error.recovery() == Recovery::DeadLetter =>
                {
                    poison_search.failed(&offsets, error)?;
                    return Ok(Some(Ended::QueryFailed));
                }
                Err(error) => return Err(error),
            };
            poison_search.succeeded(&offsets);
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

#[cfg(test)]
mod tests;
