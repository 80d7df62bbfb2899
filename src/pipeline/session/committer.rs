//! Commits epochs in their order and acknowledges their messages; decoding the next one goes on meanwhile.

use std::time::{Duration, Instant, SystemTime};

use metrics::{counter, histogram};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::model::{Epoch, EpochCommit};
use crate::pipeline::epoch::job::Job;
use crate::pipeline::error::{CommitError, Stopped};
use crate::pipeline::history::RecentEpochs;
use crate::pipeline::schema::schema_change_log;
use crate::pipeline::session::commit_report::CommitReport;
use crate::pipeline::target_retry::TargetRetry;
use crate::pipeline::tasks::dead_letter_publisher::PublishRequests;
use crate::pipeline::tasks::outbox_delivery::rows_for_outbox;
use crate::resilience::{Failpoint, Recovery, failpoint};
use crate::sink::Sink;
use crate::sink::rest::Backlog;
use crate::source::Acknowledge;
use crate::telemetry::{Condition, Health, Stages, names};

/// One job waits while one is committed.
const QUEUED: usize = 1;

/// How many jobs were handed over and are not done.
#[derive(Debug, Clone)]
pub(crate) struct InFlight(watch::Receiver<usize>);

impl InFlight {
    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Returns when the number changes, or never if the committer is gone. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The committer takes no more jobs; its own result says why.
#[derive(Debug)]
pub(crate) struct CommitterStopped;

/// The pipeline's end of the committer.
pub(crate) struct Jobs {
    sender: mpsc::Sender<Job>,
    count: watch::Sender<usize>,
    last_committed: watch::Receiver<Epoch>,
}

impl Jobs {
    /// Waits while a job before this one is still waiting: that is the back-pressure.
    pub(crate) async fn send(&self, job: Job) -> Result<(), CommitterStopped> {
        self.count.send_modify(|count| *count += 1);
        self.sender.send(job).await.map_err(|_| CommitterStopped)
    }

    /// The newest epoch that the target has, of those that were sent here.
    pub(crate) fn last_committed(&self) -> Epoch {
        *self.last_committed.borrow()
    }

    /// The same, for when nothing is sent any more.
    pub(crate) fn watch_committed(&self) -> watch::Receiver<Epoch> {
        self.last_committed.clone()
    }

    pub(crate) fn in_flight_count(&self) -> usize {
        *self.count.borrow()
    }

    pub(crate) fn in_flight(&self) -> InFlight {
        InFlight(self.count.subscribe())
    }

    /// Returns when the committer has stopped. Cancel-safe.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// A committer that takes no more jobs, and why.
pub(crate) struct StoppedCommitter<A> {
    pub(crate) committer: Committer<A>,
    pub(crate) result: Result<(), CommitError>,
}

/// Commits jobs one after the other.
pub(crate) struct Committer<A> {
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) acknowledger: A,
    health: Health,
    retry: TargetRetry,
    jobs: mpsc::Receiver<Job>,
    count: watch::Sender<usize>,
    last_committed: watch::Sender<Epoch>,
    had_committed: bool,
    /// What is remembered of it, beside the ledger.
    recent: RecentEpochs,
    report: CommitReport,
    /// The epoch that was committed last.
    last: Epoch,
    /// Backlog of the outbox; `None` without a REST API.
    backlog: Option<Backlog>,
    /// `None` if dead letters are not published.
    publishing: Option<PublishRequests>,
}

impl<A: Acknowledge> Committer<A> {
    pub(crate) fn new(
        sink: Box<dyn Sink>,
        acknowledger: A,
        retry: TargetRetry,
        health: Health,
    ) -> (Self, Jobs) {
        let (count, last_committed) = (watch::Sender::new(0), watch::Sender::new(Epoch(0)));
        let (sender, jobs) = mpsc::channel(QUEUED);
        let handle =
            Jobs { sender, count: count.clone(), last_committed: last_committed.subscribe() };
        let committer = Self {
            sink,
            acknowledger,
            health,
            retry,
            jobs,
            count,
            last_committed,
            had_committed: false,
            recent: RecentEpochs::default(),
            report: CommitReport::start(),
            last: Epoch(0),
            backlog: None,
            publishing: None,
        };
        (committer, handle)
    }

    /// Takes jobs again after it has stopped; those that it had not done are forgotten.
    pub(crate) fn with_new_jobs(self) -> (Self, Jobs) {
        let (sender, jobs) = mpsc::channel(QUEUED);
        let (count, last_committed) = (watch::Sender::new(0), watch::Sender::new(Epoch(0)));
        let handle =
            Jobs { sender, count: count.clone(), last_committed: last_committed.subscribe() };
        (Self { jobs, count, last_committed, ..self }, handle)
    }

    /// Acknowledges messages only after their dead letters are published.
    pub(crate) fn with_publishing(self, publishing: Option<PublishRequests>) -> Self {
        Self { publishing, ..self }
    }

    /// Remembers epochs in the place that sessions share.
    pub(crate) fn with_recent(self, recent: RecentEpochs) -> Self {
        Self { recent, ..self }
    }

    /// With an outbox that is bounded.
    pub(crate) fn with_backlog(self, backlog: Option<Backlog>) -> Self {
        Self { backlog, ..self }
    }

    /// Runs until the pipeline drops its end. On shutdown an epoch that can't be committed at
    /// once is given up: nothing of it is written or acknowledged.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> StoppedCommitter<A> {
        let mut acking = JoinSet::new();
        let ended = self.commit_all(&mut acking, &shutdown).await;
        self.report.finish(&self.last.to_string());
        acking.join_all().await;
        // A sender that waits hears of it at once.
        self.jobs.close();
        let result = match ended {
            Ok(()) | Err(Stopped::Shutdown) => Ok(()),
            Err(Stopped::Failed(error)) => Err(error),
        };
        StoppedCommitter { committer: self, result }
    }

    async fn commit_all(
        &mut self,
        acking: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Result<(), Stopped<CommitError>> {
        while let Some(job) = self.jobs.recv().await {
            let mut stages = Stages::start();
            if let Some(commit) = &job.commit {
                failpoint(Failpoint::BeforeCommit);
                let posted = rows_for_outbox(commit);
                self.wait_for_room(posted, shutdown).await?;
                self.commit(commit, shutdown).await?;
                if let Some(backlog) = self.backlog.as_ref().filter(|_| posted > 0) {
                    backlog.add(posted);
                }
                failpoint(Failpoint::BetweenCommitAndAck);
                stages.done("commit");
            }
            // One at a time, in the order of the epochs. It takes a quarter of a commit's time and needs
            // nothing of the target, so the next commit does not wait for it.
            std::mem::take(acking).join_all().await;
            let (acknowledger, count) = (self.acknowledger.clone(), self.count.clone());
            let (mut publishing, shutdown) = (self.publishing.clone(), shutdown.clone());
            let has_died = job.commit.as_ref().is_some_and(|commit| commit.letters() > 0);
            acking.spawn(async move {
                if let Some(publishing) = &mut publishing {
                    let published = publishing.finished(has_died);
                    if shutdown.run_until_cancelled(published).await != Some(true) {
                        // They come again, and the ledger knows them.
                        return;
                    }
                }
                let mut stages = Stages::start();
                acknowledger.ack(job.receipts).await;
                stages.done("ack");
                count.send_modify(|count| *count -= 1);
            });
        }
        Ok(())
    }

    /// Waits while the outbox is full.
    async fn wait_for_room(
        &mut self,
        posted: usize,
        shutdown: &CancellationToken,
    ) -> Result<(), Stopped<CommitError>> {
        let Some(backlog) = self.backlog.clone().filter(|b| posted > 0 && b.is_full()) else {
            return Ok(());
        };
        let reason = format!(
            "the outbox is full ({} rows, sink.rest.outbox_limit is {}): nothing is committed until the \
             REST API has taken some; repair the API, take out the transforms that post, or raise the limit",
            backlog.rows(),
            backlog.limit()
        );
        error!(reason, "the flow stops: rows for the REST API have no room");
        self.health.block(Condition::Outbox, reason);
        let has_room = tokio::select! {
            () = shutdown.cancelled() => Err(Stopped::Shutdown),
            () = backlog.room() => Ok(()),
        };
        self.health.clear(Condition::Outbox);
        has_room
    }

    /// Tries until it is committed.
    async fn commit(
        &mut self,
        commit: &EpochCommit,
        shutdown: &CancellationToken,
    ) -> Result<(), Stopped<CommitError>> {
        loop {
            let started = Instant::now();
            let error = match self.sink.commit(commit).await {
                Ok(()) => {
                    self.committed(commit, started.elapsed());
                    return Ok(());
                }
                Err(error) => error,
            };
            match error.recovery() {
                Recovery::Retry | Recovery::Hold => {}
                Recovery::DeadLetter | Recovery::Stop => {
                    let (epoch, had_committed) = (commit.epoch, self.had_committed);
                    let error = CommitError { epoch, had_committed, source: error };
                    return Err(Stopped::Failed(error));
                }
            }
            counter!(names::COMMIT_RETRIES).increment(1);
            let wait = self.retry.failed(&format!("committing epoch {}", commit.epoch), &error);
            tokio::select! {
                () = shutdown.cancelled() => return Err(Stopped::Shutdown),
                () = tokio::time::sleep(wait) => self.retry.probing(),
            }
        }
    }

    fn committed(&mut self, commit: &EpochCommit, took: Duration) {
        self.had_committed = true;
        self.recent.note(commit, self.sink.run_id());
        self.last_committed.send_replace(commit.epoch);
        self.retry.succeeded();
        let process = commit.closed_at.duration_since(commit.opened_at).unwrap_or_default();
        self.last = commit.epoch;
        self.report.committed(commit, took);
        schema_change_log::tell(&commit.schema_changes);
        counter!(names::EPOCHS).increment(1);
        histogram!(names::COMMIT_SECONDS).record(took);
        histogram!(names::PROCESS_SECONDS).record(process);
        record_lags(commit);
        for letter in &commit.dead_letters {
            counter!(names::DEAD_LETTERS, "type" => letter.error_type.as_str()).increment(1);
        }
        for changes in &commit.results {
            let rows = changes.upserts.num_rows() + changes.deletes.num_rows();
            counter!(names::RESULT_ROWS, "result" => changes.table.name.clone())
                .increment(rows as u64);
        }
    }
}

/// From the change in the source's database to now, of each row.
fn record_lags(commit: &EpochCommit) {
    let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else { return };
    let (now, lags) = (now.as_micros() as i64, histogram!(names::LAG_SECONDS));
    for changes in &commit.landing {
        for time in changes.source_times() {
            // A source whose clock is ahead.
            let lag = now.saturating_sub(time).max(0);
            lags.record(Duration::from_micros(lag.unsigned_abs()));
        }
    }
}

#[cfg(test)]
mod tests;
