//! The loop: batch by batch, until something ends the session.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::model::{Message, Offset};
use crate::pipeline::epoch::poison_search::{Attempt, PoisonSearch};
use crate::pipeline::epoch::processor::Processor;
use crate::pipeline::error::PipelineError;
use crate::pipeline::session::batch::{Collected, Collector, report};
use crate::pipeline::session::carry_over::CarryOver;
use crate::pipeline::session::committer::Jobs;
use crate::pipeline::session::end::SessionEnd;
use crate::pipeline::tasks::target_watcher::TargetWatcher;
use crate::source::{Source, SourceEvent};
use crate::state::MemoryExcess;
use crate::telemetry::{Condition, Health, Heartbeat};

/// What a session goes round with.
pub(super) struct SessionLoop<S> {
    pub(super) collector: Collector<S>,
    pub(super) processor: Processor,
    pub(super) jobs: Jobs,
    pub(super) target_watcher: TargetWatcher,
    pub(super) health: Health,
    pub(super) shutdown: CancellationToken,
    /// Another consumer had the queue for a while.
    pub(super) has_stood_by: bool,
    /// The checkpoints have epochs that the ledger lacks.
    pub(super) is_forgotten: CancellationToken,
    /// Messages that are not processed yet.
    pub(super) backlog: Vec<Message>,
    /// Messages of the jobs that the committer has not done, the oldest first.
    pub(super) in_flight: VecDeque<Arc<Vec<Message>>>,
}

impl<S: Source> SessionLoop<S> {
    pub(super) async fn run(&mut self, carry_over: &mut CarryOver) -> SessionEnd {
        let Err(end) = self.process_batches(carry_over).await;
        match end {
            SessionEnd::Failed(PipelineError::Flooded(flood)) => {
                error!(%flood, "no more messages are taken: too many can't be decoded");
                self.wait_for_operator(Condition::Decode, flood.to_string(), carry_over).await
            }
            end => end,
        }
    }

    async fn process_batches(
        &mut self,
        carry_over: &mut CarryOver,
    ) -> Result<Infallible, SessionEnd> {
        // What was taken back when a committer stopped.
        self.process_backlog(&mut carry_over.poison_search).await?;
        let mut in_flight = self.jobs.in_flight();
        let mut heartbeat = Heartbeat::start();
        loop {
            if let Some(excess) = self.processor.excess()? {
                return Err(self.wait_for_relief(&excess, carry_over).await);
            }
            let collected = tokio::select! {
                biased;
                // On a quiet queue nothing else would tell.
                () = self.jobs.closed() => return Err(SessionEnd::CommitterStopped),
                // Messages of the open batch are left to the broker, which brings them again.
                sql = carry_over.sql_watcher.next() => return Err(SessionEnd::Edited(Box::new(sql))),
                () = carry_over.replay_watcher.asked() => {
                    Box::pin(self.replay(carry_over)).await?;
                    continue;
                }
                () = heartbeat.beat() => {
                    self.note_committed(&mut carry_over.poison_search)?;
                    continue;
                }
                () = carry_over.promotion_retry.due() => return Err(SessionEnd::Learned),
                () = self.target_watcher.fits() => return Err(SessionEnd::Learned),
                () = self.is_forgotten.cancelled() => return Err(SessionEnd::Forgotten),
                collected = self.collector.next(&mut in_flight, &self.shutdown) => collected?,
            };
            match collected {
                Collected::Batch(messages) => {
                    self.backlog = messages;
                    self.process_backlog(&mut carry_over.poison_search).await?;
                }
                Collected::Ended => return Err(SessionEnd::Drained),
                Collected::Cancelled => return Err(SessionEnd::Shutdown),
                Collected::Event(event) => {
                    self.has_stood_by |= matches!(event, SourceEvent::Standby);
                    report(&event, &self.health);
                }
            }
        }
    }

    /// Takes no more messages, so that the broker keeps them, until an operator acts.
    async fn wait_for_relief(
        &self,
        excess: &MemoryExcess,
        carry_over: &mut CarryOver,
    ) -> SessionEnd {
        error!(%excess, "no more messages are taken: the memory limit is reached");
        self.wait_for_operator(Condition::Memory, excess.to_string(), carry_over).await
    }

    async fn wait_for_operator(
        &self,
        condition: Condition,
        reason: String,
        carry_over: &mut CarryOver,
    ) -> SessionEnd {
        self.health.block(condition, reason);
        let end = tokio::select! {
            biased;
            () = self.jobs.closed() => SessionEnd::CommitterStopped,
            () = self.shutdown.cancelled() => SessionEnd::Shutdown,
            () = self.is_forgotten.cancelled() => SessionEnd::Forgotten,
            sql = carry_over.sql_watcher.next() => SessionEnd::Edited(Box::new(sql)),
        };
        self.health.clear(condition);
        end
    }

    /// Processes the dead letters that were asked for, until none is left.
    async fn replay(&mut self, carry_over: &mut CarryOver) -> Result<(), SessionEnd> {
        let CarryOver { replay_watcher, poison_search, .. } = carry_over;
        loop {
            // What is being committed may be newer than what is to come back.
            self.all_committed().await?;
            self.note_committed(poison_search)?;
            let asked = replay_watcher.take(poison_search.limit()).await;
            if asked.is_empty() {
                // After events, which may bring newer versions.
                let refused = replay_watcher.take_refused().await;
                if !refused.is_empty() {
                    self.jobs.send(self.processor.resend(&refused)).await?;
                    continue;
                }
                if replay_watcher.has_rows().await {
                    return Err(SessionEnd::RowsAwaited);
                }
                return Ok(());
            }
            let offsets: Vec<Offset> = asked.iter().map(|request| request.message.offset).collect();
            let given_up = replay_watcher.given_up();
            let epoch = async |failing: &_| match given_up {
                Some(reason) => Ok(self.processor.refuse(&asked, reason)),
                None => self.processor.replay(asked, failing).await,
            };
            let job = match poison_search.attempt(&offsets, epoch).await? {
                Attempt::Done(job) => job,
                Attempt::QueryFailed => {
                    self.check_state()?;
                    continue;
                }
                Attempt::GivenUp(error) => {
                    replay_watcher.give_up(&error);
                    self.check_state()?;
                    continue;
                }
            };
            self.jobs.send(job).await?;
            self.all_committed().await?;
            poison_search.forget(offsets);
            if self.processor.has_learned() {
                return Err(SessionEnd::Learned);
            }
        }
    }

    /// Waits until every epoch that was handed over is committed.
    async fn all_committed(&self) -> Result<(), SessionEnd> {
        let mut in_flight = self.jobs.in_flight();
        while !in_flight.is_empty() {
            tokio::select! {
                () = self.jobs.closed() => return Err(SessionEnd::CommitterStopped),
                () = self.shutdown.cancelled() => return Err(SessionEnd::Shutdown),
                () = in_flight.changed() => {}
            }
        }
        Ok(())
    }

    /// Waits until the target has all epochs: the state that is flushed is that after one of them.
    async fn let_state_be_flushed(
        &mut self,
        poison_search: &mut PoisonSearch,
    ) -> Result<(), SessionEnd> {
        let mut committed = self.jobs.watch_committed();
        while self.processor.waits_for_commits()? {
            tokio::select! {
                () = self.jobs.closed() => return Err(SessionEnd::CommitterStopped),
                () = self.shutdown.cancelled() => return Err(SessionEnd::Shutdown),
                changed = committed.changed() => {
                    if changed.is_err() {
                        return Err(SessionEnd::CommitterStopped);
                    }
                }
            }
            self.note_committed(poison_search)?;
        }
        Ok(())
    }

    /// Whether the epoch that failed was taken back. After a panic, for example, the state may be half changed.
    fn check_state(&self) -> Result<(), SessionEnd> {
        if self.processor.is_broken() { Err(SessionEnd::StateBroken) } else { Ok(()) }
    }

    /// Takes back what the target does not have, after a committer has stopped: its messages come first now.
    pub(super) fn start_over(
        &mut self,
        jobs: Jobs,
        poison_search: &mut PoisonSearch,
    ) -> Result<(), PipelineError> {
        self.note_committed(poison_search)?;
        self.processor.abort()?;
        self.processor.raise_preflight(&poison_search.preflight_levels());
        self.backlog.splice(0..0, self.in_flight.drain(..).flat_map(Arc::unwrap_or_clone));
        self.jobs = jobs;
        Ok(())
    }

    /// Forgets what would take the epochs back that the target has.
    fn note_committed(&mut self, poison_search: &mut PoisonSearch) -> Result<(), PipelineError> {
        self.processor.committed(self.jobs.last_committed())?;
        while self.in_flight.len() > self.jobs.in_flight_count() {
            let done = self.in_flight.pop_front().unwrap_or_default();
            poison_search.forget(done.iter().map(|message| message.offset));
        }
        Ok(())
    }

    /// One epoch, or several while a failing query is looked into.
    async fn process_backlog(
        &mut self,
        poison_search: &mut PoisonSearch,
    ) -> Result<(), SessionEnd> {
        while !self.backlog.is_empty() {
            self.note_committed(poison_search)?;
            if self.processor.waits_for_commits()? {
                self.let_state_be_flushed(poison_search).await?;
            }
            let part = Arc::new(poison_search.next_part(&mut self.backlog));
            let offsets: Vec<Offset> = part.iter().map(|message| message.offset).collect();
            let epoch =
                async |failing: &_| self.processor.process(Arc::clone(&part), failing).await;
            let job = match poison_search.attempt(&offsets, epoch).await? {
                Attempt::Done(job) => job,
                Attempt::QueryFailed => {
                    self.check_state()?;
                    self.backlog.splice(0..0, Arc::unwrap_or_clone(part));
                    continue;
                }
                // What has succeeded so far is committed, and what has not comes again.
                Attempt::GivenUp(PipelineError::Transform(error)) => {
                    return Err(SessionEnd::ResultFailed(error));
                }
                Attempt::GivenUp(error) => return Err(error.into()),
            };
            self.in_flight.push_back(part);
            self.jobs.send(job).await?;
            if self.processor.has_learned() {
                return Err(SessionEnd::Learned);
            }
        }
        Ok(())
    }
}
