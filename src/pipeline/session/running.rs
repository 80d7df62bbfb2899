//! A session with everything that runs beside its loop.

use std::collections::VecDeque;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::pipeline::error::{CommitError, PipelineError};
use crate::pipeline::session::batch::Collector;
use crate::pipeline::session::carry_over::CarryOver;
use crate::pipeline::session::committer::{Committer, StoppedCommitter};
use crate::pipeline::session::end::SessionEnd;
use crate::pipeline::session::inputs::SessionInputs;
use crate::pipeline::session::session_loop::SessionLoop;
use crate::pipeline::session::start::start;
use crate::pipeline::tasks::background::BackgroundTask;
use crate::pipeline::tasks::checkpoint_writer::{CheckpointInputs, Comparing};
use crate::pipeline::tasks::target_watcher::TargetWatcher;
use crate::pipeline::tasks::{
    checkpoint_writer, dead_letter_publisher, landing_pruner, outbox_delivery,
};
use crate::sink::SinkError;
use crate::source::Source;
use crate::telemetry::{Condition, Health, Heartbeat};

/// Runs until something ends the session.
pub(crate) async fn run_session<S: Source + 'static>(
    inputs: SessionInputs<'_>,
    queue: &str,
    source: S,
    carry_over: &mut CarryOver,
) -> SessionEnd {
    match RunningSession::start(inputs, queue, source, carry_over).await {
        Ok(session) => session.run(carry_over).await,
        Err(end) => end,
    }
}

/// The loop, and what runs beside it.
struct RunningSession<S: Source> {
    session_loop: SessionLoop<S>,
    committer: JoinHandle<StoppedCommitter<S::Acknowledger>>,
    /// Cancelled when the committer is to give up what it can't commit at once.
    ending: CancellationToken,
    delivery: Option<BackgroundTask>,
    publisher: BackgroundTask,
    checkpoints: BackgroundTask,
    pruner: Option<BackgroundTask>,
}

impl<S: Source + 'static> RunningSession<S> {
    async fn start(
        inputs: SessionInputs<'_>,
        queue: &str,
        source: S,
        carry_over: &mut CarryOver,
    ) -> Result<Self, SessionEnd> {
        let SessionInputs { config, access, health, shutdown, .. } = inputs;
        let acknowledger = source.acknowledger();
        let limits = config.batch.limits(config.source.max_unacked());
        let mut collector = Collector::new(source, limits);
        wait_for_queue(&mut collector, health, shutdown).await?;
        let started = start(inputs, queue, carry_over).await?;
        carry_over.has_started = true;
        carry_over.promotion_retry.note(started.has_failed_to_alter);
        let (results, rest) = (started.processor.results(), config.sink.rest.as_ref());
        let (delivery, backlog) = outbox_delivery::spawn(access, rest, &results, health)?.unzip();
        let retry = access.retry(health, "write");
        let (committer, jobs) =
            Committer::new(Box::new(started.sink), acknowledger, retry, health.clone());
        let committer = committer.with_recent(carry_over.history.recent());
        let (publisher, publishing) =
            dead_letter_publisher::spawn(access, &config.dead_letters, &config.source, health);
        let committer = committer.with_backlog(backlog).with_publishing(publishing);
        let ending = shutdown.child_token();
        let committer = tokio::spawn(committer.run(ending.clone()));
        let is_forgotten = CancellationToken::new();
        let comparison = Comparing {
            comparison: carry_over.history.comparison(),
            is_forgotten: is_forgotten.clone(),
        };
        let (config, state_folder) = (&config.checkpoint, &started.state_folder);
        let checkpoints = CheckpointInputs { access, config, health, state_folder };
        let checkpoints = checkpoint_writer::spawn(checkpoints, comparison)?;
        let session_loop = SessionLoop {
            collector,
            processor: started.processor,
            jobs,
            target_watcher: TargetWatcher::watch(access, started.waits_for_target)?,
            health: health.clone(),
            shutdown: shutdown.clone(),
            has_stood_by: false,
            is_forgotten,
            backlog: Vec::new(),
            in_flight: VecDeque::new(),
        };
        let pruner = landing_pruner::spawn(access, session_loop.processor.transforms().tables())?;
        health.clear(Condition::State);
        Ok(Self { session_loop, committer, ending, delivery, publisher, checkpoints, pruner })
    }

    /// If the committer has stopped because rows were refused: takes the epochs back that the target does not
    /// have, and lets it go on. Their messages come again, those of refused rows as dead letters.
    async fn divert_refused(
        &mut self,
        carry_over: &mut CarryOver,
    ) -> Result<CommitterCheck, PipelineError> {
        let stopped = (&mut self.committer).await.map_err(PipelineError::Panicked)?;
        let StoppedCommitter { committer, result } = stopped;
        let rows = match result {
            Err(CommitError { source: SinkError::RowsRefused { rows }, .. }) => rows,
            result => {
                self.committer = tokio::spawn(async { StoppedCommitter { committer, result } });
                return Ok(CommitterCheck::HasStopped);
            }
        };
        let poison_search = &mut carry_over.poison_search;
        poison_search.refused(rows);
        let (committer, jobs) = committer.with_new_jobs();
        self.session_loop.start_over(jobs, poison_search)?;
        self.committer = tokio::spawn(committer.run(self.ending.clone()));
        Ok(CommitterCheck::GoesOn)
    }

    async fn run(mut self, carry_over: &mut CarryOver) -> SessionEnd {
        let end = loop {
            // Boxed, because every caller's future would hold it.
            let end = Box::pin(self.session_loop.run(carry_over)).await;
            if !matches!(end, SessionEnd::CommitterStopped) {
                break end;
            }
            match self.divert_refused(carry_over).await {
                Ok(CommitterCheck::GoesOn) => {}
                Ok(CommitterCheck::HasStopped) => break end,
                Err(error) => break SessionEnd::Failed(error),
            }
        };
        if matches!(end, SessionEnd::Failed(_)) {
            // Nobody waits for a target that is away, to hear of another error.
            self.ending.cancel();
        }
        // The committer ends when no sender is left; the source lives until it has acknowledged.
        let SessionLoop { collector, jobs, health, has_stood_by, processor, .. } =
            self.session_loop;
        let mut processor = Box::new(processor);
        let last_committed = jobs.watch_committed();
        drop(jobs);
        let committed = match self.committer.await {
            Ok(stopped) => stopped.result,
            Err(error) => return SessionEnd::Failed(PipelineError::Panicked(error)),
        };
        if committed.is_ok() && !processor.is_broken() {
            let last = *last_committed.borrow();
            if let Err(error) = processor.close(last) {
                return SessionEnd::Failed(error);
            }
        }
        if let Some(delivery) = self.delivery {
            delivery.finish().await;
        }
        self.publisher.finish().await;
        health.clear(Condition::DeadLetters);
        self.checkpoints.finish().await;
        if let Some(pruner) = self.pruner {
            pruner.finish().await;
        }
        collector.into_source().close().await;
        // A committer that stopped is why processing stopped, so its error is the one to tell.
        match committed {
            Err(error) if is_overtaken(&error, has_stood_by) => SessionEnd::Overtaken,
            Err(CommitError { source: SinkError::Forgotten { .. }, .. }) => SessionEnd::Forgotten,
            Err(CommitError { source: SinkError::RowsRefused { rows }, .. }) => {
                carry_over.poison_search.refused(rows);
                SessionEnd::RowsRefused
            }
            Err(error) => SessionEnd::Failed(error.into()),
            Ok(()) => end,
        }
    }
}

/// Whether a committer that had stopped goes on.
enum CommitterCheck {
    GoesOn,
    HasStopped,
}

/// Fenced at the first commit, or after standing by: another processor had its turn, and a new start
/// from its ledger heals that. Else another processor commits while this one works, and one must stop.
pub(super) fn is_overtaken(error: &CommitError, has_stood_by: bool) -> bool {
    matches!(error.source, SinkError::Fenced { .. }) && (has_stood_by || !error.had_committed)
}

/// State is loaded only when the queue is ours: who stands by behind another processor would
/// load a state that this one is still changing.
async fn wait_for_queue<S: Source>(
    collector: &mut Collector<S>,
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<(), SessionEnd> {
    health.block(Condition::Source, "connecting");
    let mut heartbeat = Heartbeat::start();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Err(SessionEnd::Shutdown),
            () = heartbeat.beat() => {}
            up = collector.wait_until_up(health) => {
                if !up? {
                    return Err(SessionEnd::Drained);
                }
                health.clear(Condition::Source);
                return Ok(());
            }
        }
    }
}
