//! Sends persistent messages and counts the answers of the broker.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tidemark_base::{Recovery, Secret};
use tokio::sync::{Notify, oneshot};

use super::failure::{Cause, Failure};
use super::ffi::{Outbound, Session, SessionEvent, SessionHandler};
use super::session::{self, SessionSettings};

/// Rejections that are kept with the broker's words; more are only counted.
const KEPT_REJECTIONS: usize = 100;

/// Where to publish to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishConfig {
    /// Broker address, `tcp://host:port`.
    pub host: String,
    /// Message VPN.
    pub vpn: String,
    pub username: String,
    pub password: Secret,
    /// Messages that may be sent and not yet acknowledged, 1 to 255.
    pub window: u8,
}

/// A persistent message to send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'message> {
    pub topic: &'message str,
    pub payload: &'message [u8],
    pub properties: &'message [(String, String)],
    /// The application message id.
    pub id: &'message str,
    /// Milliseconds since 1970.
    pub sent_at_ms: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the broker at {host} refused the login of '{username}'")]
    LoginRefused {
        host: String,
        username: String,
        #[source]
        source: Failure,
    },
    #[error("no connection to the broker at {host}")]
    Unreachable {
        host: String,
        #[source]
        source: Failure,
    },
    #[error("the message to '{topic}' cannot be sent")]
    Unsendable {
        topic: String,
        #[source]
        source: Failure,
    },
    #[error("the client library refused the session")]
    Library(#[source] Failure),
}

impl PublishError {
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Unreachable { .. } => Recovery::Retry,
            Self::LoginRefused { .. } | Self::Library(_) => Recovery::Stop,
            Self::Unsendable { .. } => Recovery::DeadLetter,
        }
    }
}

/// Sends persistent messages and counts what the broker says about them.
///
/// It uses this module's own session because `solace-rs` reports an acknowledgement without saying
/// of which message, and has no user properties.
/// A broken connection is restored by the library, which sends again what was not acknowledged.
pub struct Publisher {
    session: Session,
    progress: Arc<Progress>,
}

/// What became of the messages so far.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// The broker has stored them.
    pub acknowledged: u64,
    /// The broker does not want them.
    pub rejected: u64,
    /// The first rejections: the number of the message (as [`Publisher::send`] was given it), and why.
    pub rejections: Vec<(u64, Failure)>,
    /// The numbers of all rejected messages, as runs in the order of the answers.
    pub rejected_runs: Vec<RangeInclusive<u64>>,
}

impl Settled {
    pub fn count(&self) -> u64 {
        self.acknowledged + self.rejected
    }

    fn reject(&mut self, number: u64, failure: Failure) {
        self.rejected += 1;
        if self.rejections.len() < KEPT_REJECTIONS {
            self.rejections.push((number, failure));
        }
        match self.rejected_runs.last_mut() {
            Some(run) if run.end() + 1 == number => *run = *run.start()..=number,
            _ => self.rejected_runs.push(number..=number),
        }
    }
}

#[derive(Default)]
struct Progress {
    state: Mutex<Answers>,
    changed: Notify,
}

#[derive(Default)]
struct Answers {
    /// The numbers that were sent and have no answer.
    open: HashSet<u64>,
    settled: Settled,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an answer. A message that was sent again after a reconnect may get two; only the first counts,
    /// or else somebody would take another message for stored.
    fn settle(&self, number: u64, note: impl FnOnce(&mut Settled)) {
        let mut state = self.lock();
        if state.open.remove(&number) {
            note(&mut state.settled);
        }
        drop(state);
        self.changed.notify_one();
    }
}

/// Runs on the library's thread.
struct Listener {
    progress: Arc<Progress>,
    connected: Mutex<Option<oneshot::Sender<Result<(), Failure>>>>,
}

impl Listener {
    fn answer(&self, outcome: Result<(), Failure>) {
        let waiting = self.connected.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            // Nobody waits any more if the attempt was cancelled.
            drop(waiting.send(outcome));
        }
    }
}

impl SessionHandler for Listener {
    fn on_event(&self, event: SessionEvent) {
        match event {
            SessionEvent::Up => self.answer(Ok(())),
            SessionEvent::ConnectFailed(failure) | SessionEvent::Down(failure) => {
                self.answer(Err(failure));
            }
            SessionEvent::Acknowledged(number) => {
                self.progress.settle(number, |settled| settled.acknowledged += 1);
            }
            SessionEvent::Rejected(number, failure) => {
                self.progress.settle(number, |settled| settled.reject(number, failure));
            }
            SessionEvent::Reconnecting(_) | SessionEvent::Reconnected | SessionEvent::Other => {}
        }
    }
}

impl Publisher {
    /// # Errors
    /// If the broker cannot be reached or refuses the login.
    pub async fn connect(config: &PublishConfig) -> Result<Self, PublishError> {
        let (sender, connected) = oneshot::channel();
        let progress = Arc::new(Progress::default());
        let listener =
            Listener { progress: Arc::clone(&progress), connected: Mutex::new(Some(sender)) };
        let settings = SessionSettings {
            host: &config.host,
            vpn: &config.vpn,
            username: &config.username,
            password: &config.password,
            client_name: None,
            connect_timeout: Duration::from_secs(30),
            reconnect_wait: Duration::from_secs(3),
            keep_alive: Duration::from_secs(3),
            publish_window: config.window,
        };
        let session =
            session::create(&settings, Box::new(listener)).map_err(PublishError::Library)?;
        let publisher = Self { session, progress };
        let started = publisher.session.connect();
        let outcome = match started {
            Ok(()) => connected.await.expect("the session owns the sender and is alive"),
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(()) => Ok(publisher),
            Err(source) if source.cause() == Cause::Login => Err(PublishError::LoginRefused {
                host: config.host.clone(),
                username: config.username.clone(),
                source,
            }),
            Err(source) => Err(PublishError::Unreachable { host: config.host.clone(), source }),
        }
    }

    /// Hands a message to the library. Blocks while the window is full or the connection is down,
    /// so call it where blocking is allowed. `number` names the message in a rejection; no other message
    /// without an answer may have it.
    ///
    /// # Errors
    /// If the message can't be expressed (a NUL in its topic), or the library refuses it.
    pub fn send(&self, number: u64, message: &Outgoing<'_>) -> Result<(), PublishError> {
        let unsendable =
            |source| PublishError::Unsendable { topic: message.topic.to_owned(), source };
        let outbound = outbound(number, message).map_err(unsendable)?;
        self.progress.lock().open.insert(number);
        let sent = self.session.send(&outbound);
        if sent.is_err() {
            self.progress.lock().open.remove(&number);
        }
        sent.map_err(unsendable)
    }

    pub fn settled(&self) -> Settled {
        self.progress.lock().settled.clone()
    }

    /// Waits until the broker has answered this many messages. Cancel-safe.
    pub async fn wait_until_settled(&self, count: u64) {
        while self.progress.lock().settled.count() < count {
            self.progress.changed.notified().await;
        }
    }
}

/// Publishes one small message to `topic`; why the broker does not take it, if it does not.
///
/// # Errors
/// If the broker cannot be reached or refuses the login.
pub async fn try_to_publish(
    config: &PublishConfig,
    topic: &str,
) -> Result<Option<Failure>, PublishError> {
    let publisher = Publisher::connect(config).await?;
    let payload = br#"{"message":"tidemark doctor asks whether it may publish here"}"#;
    let message =
        Outgoing { topic, payload, properties: &[], id: "tidemark-doctor", sent_at_ms: 0 };
    // The window is empty, so that this does not block.
    publisher.send(1, &message)?;
    publisher.wait_until_settled(1).await;
    Ok(publisher.settled().rejections.pop().map(|(_, failure)| failure))
}

fn outbound(number: u64, message: &Outgoing<'_>) -> Result<Outbound, Failure> {
    let mut outbound = Outbound::new(message.topic, message.payload)?;
    outbound.set_tag(number)?;
    outbound.set_message_id(message.id)?;
    outbound.set_sent_at(message.sent_at_ms)?;
    outbound.set_properties(message.properties)?;
    Ok(outbound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejected_message_is_known_by_its_number() {
        let mut settled = Settled::default();
        for number in [3, 4, 5, 9, 7] {
            settled.reject(number, Failure::new(1, "", "full"));
        }
        assert_eq!(settled.rejected, 5);
        assert_eq!(settled.rejected_runs, [3..=5, 9..=9, 7..=7]);
    }

    #[test]
    fn a_message_that_is_acknowledged_twice_counts_once() {
        let progress = Arc::new(Progress::default());
        let listener = Listener { progress: Arc::clone(&progress), connected: Mutex::new(None) };
        progress.lock().open.extend([1, 2, 3]);
        for number in [1, 2, 1, 2] {
            listener.on_event(SessionEvent::Acknowledged(number));
        }
        assert_eq!(progress.lock().settled.count(), 2);
        listener.on_event(SessionEvent::Acknowledged(3));
        assert_eq!(progress.lock().settled.acknowledged, 3);
    }
}
