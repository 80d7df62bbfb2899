//! Looks at the messages of a queue and leaves them there; tries out whether a queue could be consumed from.

use std::sync::Arc;
use std::time::Duration;

use solace_rs_sys as sys;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::config::SolaceConfig;
use super::failure::Failure;
use super::ffi::{
    Delivery, Flow, FlowEvent, FlowHandler, Properties, Session, SessionEvent, SessionHandler,
};
use super::session::{self, SessionSettings};
use crate::SolaceError;
use crate::consumer::flow::{flow_properties, no_connection, refusal};
use crate::{Message, Receipt};

/// Room for events beside the messages.
const EVENTS: usize = 256;

/// What callbacks tell.
enum Notice {
    Message(Message),
    Session(SessionEvent),
    Flow(FlowEvent),
    Broken(SolaceError),
}

#[derive(Clone)]
struct Looker(mpsc::Sender<Notice>);

impl Looker {
    fn tell(&self, seen: Notice) {
        // There is room for as many messages as are wanted, and they come first: what finds none is not
        // wanted.
        drop(self.0.try_send(seen));
    }
}

impl SessionHandler for Looker {
    fn on_event(&self, event: SessionEvent) {
        self.tell(Notice::Session(event));
    }
}

impl FlowHandler for Looker {
    fn on_message(&self, message: &Delivery<'_>) {
        let topic = message.topic();
        let Some(offset) = message.offset() else {
            return self.tell(Notice::Broken(SolaceError::NoOffset { topic }));
        };
        self.tell(Notice::Message(Message {
            offset,
            receipt: Receipt { flow: 0, id: 0 },
            topic,
            payload: message.payload(),
            redelivered: message.is_redelivered(),
            properties: message.properties(),
        }));
    }

    fn on_event(&self, event: FlowEvent) {
        self.tell(Notice::Flow(event));
    }

    fn on_panic(&self) {
        self.tell(Notice::Broken(SolaceError::CallbackPanicked));
    }
}

/// The first `count` messages of the queue, or fewer if none comes for `quiet`. Nothing is consumed, and
/// other consumers of the queue notice nothing.
///
/// # Errors
/// What the broker refuses; no attempt is repeated.
pub async fn browse(
    config: &SolaceConfig,
    count: usize,
    quiet: Duration,
) -> Result<Vec<Message>, SolaceError> {
    let mut bound = BoundFlow::new(config, count, true).await?;
    let mut messages = Vec::new();
    while messages.len() < count {
        match tokio::time::timeout(quiet, bound.seen.recv()).await {
            Err(_) | Ok(None) => break,
            Ok(Some(Notice::Message(message))) => messages.push(message),
            Ok(Some(other)) => bound.check(config, other)?,
        }
    }
    bound.close().await;
    Ok(messages)
}

/// Binds to the queue as a consumer that takes nothing, and leaves it.
///
/// # Errors
/// As [`browse`].
pub async fn try_to_consume(config: &SolaceConfig) -> Result<(), SolaceError> {
    let bound = BoundFlow::new(config, 0, false).await?;
    bound.close().await;
    Ok(())
}

/// A flow that is bound.
struct BoundFlow {
    session: Arc<Session>,
    flow: Flow,
    seen: mpsc::Receiver<Notice>,
}

impl BoundFlow {
    async fn new(
        config: &SolaceConfig,
        count: usize,
        is_browser: bool,
    ) -> Result<Self, SolaceError> {
        let (sender, mut seen) = mpsc::channel(count + EVENTS);
        let looker = Looker(sender);
        // Under the name of the processor it would end the processor's connection.
        let settings = SessionSettings { client_name: None, ..SessionSettings::from(config) };
        let session = session::create(&settings, Box::new(looker.clone()))
            .map_err(|source| SolaceError::Library { action: "create a session", source })?;
        let session = Arc::new(session);
        session.connect().map_err(|source| no_connection(config, source))?;
        wait(&mut seen, |seen| match seen {
            Notice::Session(SessionEvent::Up) => Some(Ok(())),
            Notice::Session(SessionEvent::ConnectFailed(source) | SessionEvent::Down(source)) => {
                Some(Err(no_connection(config, source)))
            }
            _ => None,
        })
        .await?;
        let refused = |source| refusal(config, "consume from", source);
        let properties = properties(config, is_browser).map_err(refused)?;
        let flow = Flow::bind(Arc::clone(&session), &properties, Box::new(looker));
        let mut bound = Self { session, flow: flow.map_err(refused)?, seen };
        bound.wait_until_up(config).await?;
        Ok(bound)
    }

    async fn wait_until_up(&mut self, config: &SolaceConfig) -> Result<(), SolaceError> {
        wait(&mut self.seen, |seen| match seen {
            Notice::Flow(FlowEvent::Up) => Some(Ok(())),
            Notice::Flow(FlowEvent::BindFailed(source) | FlowEvent::Down(source)) => {
                Some(Err(refusal(config, "consume from", source)))
            }
            Notice::Session(SessionEvent::Down(source)) => Some(Err(no_connection(config, source))),
            _ => None,
        })
        .await
    }

    /// Whether it goes on after this.
    fn check(&self, config: &SolaceConfig, seen: Notice) -> Result<(), SolaceError> {
        match seen {
            Notice::Broken(error) => Err(error),
            Notice::Flow(FlowEvent::Down(source)) => Err(refusal(config, "consume from", source)),
            Notice::Session(SessionEvent::Down(source)) => Err(no_connection(config, source)),
            Notice::Message(_) | Notice::Flow(_) | Notice::Session(_) => Ok(()),
        }
    }

    /// The library waits for the broker's answers.
    async fn close(self) {
        let Self { session, flow, seen } = self;
        let closed = spawn_blocking(move || {
            drop(flow);
            let closed = session.disconnect();
            drop((session, seen));
            closed
        });
        let closed = closed.await;
        tracing::debug!(?closed, "looked at a queue");
    }
}

/// Until something decides.
async fn wait(
    seen: &mut mpsc::Receiver<Notice>,
    mut decide: impl FnMut(Notice) -> Option<Result<(), SolaceError>>,
) -> Result<(), SolaceError> {
    while let Some(next) = seen.recv().await {
        if let Some(decided) = decide(next) {
            return decided;
        }
    }
    Ok(())
}

fn properties(config: &SolaceConfig, is_browser: bool) -> Result<Properties, Failure> {
    let mut properties = flow_properties(config)?;
    if is_browser {
        properties.set(sys::SOLCLIENT_FLOW_PROP_BROWSER, "1")?;
    } else {
        // With its window closed it gets no message.
        properties.set(sys::SOLCLIENT_FLOW_PROP_START_STATE, "0")?;
    }
    Ok(properties)
}
