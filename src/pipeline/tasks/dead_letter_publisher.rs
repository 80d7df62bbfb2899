//! Dead letters after their epoch: published to a topic of their own, counted, and deleted when they are resolved and old.
//!
//! What is in the table and not marked as published is to be published. A message is acknowledged after its
//! dead letter was: whoever listens to the topic misses none. A crash in between publishes a letter twice, with
//! the same id.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use metrics::{counter, gauge};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::config::{DeadLetterConfig, Expires};
use crate::model::LetterStatus;
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::target_retry::{FIRST_WAIT, LONGEST_WAIT};
use crate::pipeline::tasks::background::BackgroundTask;
use crate::resilience::{Backoff, Failpoint, chain, failpoint};
use crate::sink::SinkError;
use crate::sink::postgres::{LetterStore, StoredLetter};
use crate::source::SourceConfig;
use crate::source::solace::{Outgoing, PublishConfig, PublishError, Publisher};
use crate::telemetry::{Condition, Health, names};

/// So many letters are read and published at once; fewer if they are large.
const PAGE: i64 = 200;
/// How often letters that no epoch wrote are looked for, such as those of the REST API.
const LOOK: Duration = Duration::from_secs(10);
/// How often the open ones are counted.
const COUNT: Duration = Duration::from_secs(30);
/// How often old letters are deleted.
const SWEEP: Duration = Duration::from_secs(600);

/// Asks for everything that is in the table to be published, and waits for it.
#[derive(Debug, Clone)]
pub(crate) struct PublishRequests {
    wanted: watch::Sender<u64>,
    done: watch::Receiver<u64>,
}

impl PublishRequests {
    /// Whether the letters of earlier runs are published. Afterwards `is_needed` says whether there are new
    /// ones to wait for. `false`: the task has ended, so that nothing may be acknowledged.
    pub(crate) async fn finished(&mut self, is_needed: bool) -> bool {
        let mut goal = 1;
        if is_needed {
            self.wanted.send_modify(|wanted| {
                *wanted += 1;
                goal = *wanted;
            });
        }
        self.done.wait_for(|done| *done >= goal).await.is_ok()
    }
}

/// Also what acknowledging waits for, if anything is published.
pub(crate) fn spawn(
    access: &PostgresAccess,
    config: &DeadLetterConfig,
    source: &SourceConfig,
    health: &Health,
) -> (BackgroundTask, Option<PublishRequests>) {
    let (wanted, goals) = watch::channel(1);
    let (done, reached) = watch::channel(0);
    let to = match source {
        SourceConfig::Solace(solace) => config.publish.then(|| PublishConfig {
            host: solace.host.clone(),
            vpn: solace.vpn.clone(),
            username: solace.username.clone(),
            password: solace.password.clone(),
            window: 255,
        }),
        SourceConfig::File(_) => None,
    };
    let publishing = to.is_some().then_some(PublishRequests { wanted, done: reached });
    let publisher = DeadLetterPublisher {
        store: access.letters(),
        config: config.clone(),
        to,
        connected: None,
        health: health.clone(),
    };
    let task = BackgroundTask::spawn("publishing of dead letters", |stop| async move {
        stop.run_until_cancelled(Box::pin(publisher.run(goals, done))).await;
    });
    (task, publishing)
}

/// Why letters are not published yet.
#[derive(Debug, thiserror::Error)]
enum LetterError {
    #[error("the dead-letter table can't be used")]
    Table(#[from] SinkError),
    #[error("dead letters can't be published")]
    Publish(#[from] PublishError),
    #[error(
        "the broker refuses dead letters on {topic}: let the client user publish there, or set \
         dead_letters.publish = false"
    )]
    Refused {
        topic: String,
        #[source]
        source: crate::source::solace::Failure,
    },
}

/// A publisher, and how many messages were handed to it.
struct ConnectedPublisher {
    publisher: Arc<Publisher>,
    sent: u64,
}

/// Publishes letters, and deletes old ones.
struct DeadLetterPublisher {
    store: LetterStore,
    config: DeadLetterConfig,
    to: Option<PublishConfig>,
    /// Connected for the first letter.
    connected: Option<ConnectedPublisher>,
    health: Health,
}

impl DeadLetterPublisher {
    async fn run(mut self, mut goals: watch::Receiver<u64>, done: watch::Sender<u64>) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let (mut swept, mut counted): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            let goal = *goals.borrow_and_update();
            if counted.is_none_or(|at| at.elapsed() >= COUNT) {
                self.count().await;
                counted = Some(Instant::now());
            }
            if let Err(error) = self.publish_all().await {
                self.connected = None;
                let (wait, reason) = (backoff.next_wait(), chain(&error));
                warn!(error = reason, "dead letters are not published, so nothing is acknowledged");
                self.health.block(Condition::DeadLetters, reason);
                tokio::time::sleep(wait).await;
                continue;
            }
            if backoff.attempts() > 0 {
                backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
                self.health.clear(Condition::DeadLetters);
            }
            // Nobody waits when nothing is published.
            done.send_replace(goal);
            if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                self.sweep().await;
                swept = Some(Instant::now());
            }
            tokio::select! {
                changed = goals.changed() => if changed.is_err() { tokio::time::sleep(LOOK).await },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Shows how many letters are open, and how old the oldest is.
    async fn count(&mut self) {
        match self.store.open_letters().await {
            Ok(open) => {
                gauge!(names::OPEN_LETTERS).set(open.count as f64);
                gauge!(names::OLDEST_LETTER).set(open.oldest.as_secs_f64());
            }
            // While the target is away, others say so.
            Err(error) => debug!(error = chain(&error), "open dead letters can't be counted"),
        }
    }

    async fn sweep(&mut self) {
        let Some(before) = SystemTime::now().checked_sub(self.config.retention) else { return };
        let statuses: &[LetterStatus] = match self.config.expires {
            Expires::Resolved => &[LetterStatus::Replayed, LetterStatus::Superseded],
            Expires::All => &LetterStatus::ALL,
        };
        match self.store.expire(before, statuses, self.to.is_some()).await {
            Ok(0) => {}
            Ok(count) => {
                info!(count, "dead letters are older than dead_letters.retention: deleted")
            }
            Err(error) => warn!(error = chain(&error), "old dead letters can't be deleted"),
        }
    }

    async fn publish_all(&mut self) -> Result<(), LetterError> {
        let Some(to) = self.to.clone() else { return Ok(()) };
        loop {
            let letters = self.store.unpublished(PAGE).await?;
            if letters.is_empty() {
                return Ok(());
            }
            let mut connected = match self.connected.take() {
                Some(connected) => connected,
                None => {
                    let publisher = Arc::new(Publisher::connect(&to).await?);
                    ConnectedPublisher { publisher, sent: 0 }
                }
            };
            let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
            self.publish(&mut connected, letters).await?;
            failpoint(Failpoint::LettersPublished);
            self.store.published(&ids).await?;
            counter!(names::PUBLISHED_LETTERS).increment(ids.len() as u64);
            self.connected = Some(connected);
        }
    }

    /// Returns when the broker has stored all of them.
    async fn publish(
        &self,
        connected: &mut ConnectedPublisher,
        letters: Vec<StoredLetter>,
    ) -> Result<(), LetterError> {
        let publisher = Arc::clone(&connected.publisher);
        let rejected_before = publisher.settled().rejections.len();
        connected.sent += letters.len() as u64;
        let topics: Vec<(u64, String)> = letters
            .iter()
            .map(|letter| (number(letter), self.config.topic(&letter.topic)))
            .collect();
        let sending = topics.clone();
        let sent = tokio::task::spawn_blocking(move || {
            letters.into_iter().zip(&sending).try_for_each(|(mut letter, (number, topic))| {
                let payload = letter.envelope();
                // A large one is not held twice while it is sent.
                letter.payload = Bytes::new();
                publisher.send(*number, &outgoing(&letter, topic, payload.as_bytes()))
            })
        });
        sent.await.expect("sending does not panic, and the runtime outlives the task")?;
        connected.publisher.wait_until_settled(connected.sent).await;
        for (number, failure) in connected.publisher.settled().rejections.drain(rejected_before..) {
            let topic = topics.iter().find(|(sent, _)| *sent == number);
            let topic = topic.map_or_else(String::new, |(_, topic)| topic.clone());
            if !failure.is_of_message() {
                return Err(LetterError::Refused { topic, source: failure });
            }
            warn!(id = number, topic, %failure, "the broker takes no such message: this dead letter is in the table only");
        }
        Ok(())
    }
}

fn number(letter: &StoredLetter) -> u64 {
    letter.id.unsigned_abs()
}

fn outgoing<'a>(letter: &'a StoredLetter, topic: &'a str, payload: &'a [u8]) -> Outgoing<'a> {
    let id = letter.event_id.as_deref().unwrap_or_default();
    let sent_at = letter.last_failure.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let sent_at_ms = i64::try_from(sent_at.as_millis()).unwrap_or(i64::MAX);
    Outgoing { topic, payload, properties: &[], id, sent_at_ms }
}
