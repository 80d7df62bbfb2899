//! A flow's settings, its callbacks, and what the broker's refusals mean.

use std::sync::{Arc, Mutex, PoisonError};

use solace_rs_sys as sys;
use tidemark_base::chain;
use tokio::sync::mpsc;

use super::event::SourceEvent;
use super::inbox::Inbox;
use crate::config::{Access, SolaceConfig};
use crate::failure::Failure;
use crate::ffi::{
    Delivery, FlowEvent, FlowHandler, Properties, Session, SessionEvent, SessionHandler,
};
use crate::{Message, Receipt, SolaceError};

/// How long the library may keep acknowledgements to itself: what a kill brings back.
const ACK_TIMER_MS: &str = "100";

/// What callbacks tell the supervisor.
pub(super) enum Signal {
    Session(SessionEvent),
    Flow { generation: u32, event: FlowEvent },
}

/// The way from the library's thread to the supervisor and to the consumer.
///
/// What the consumer has to know goes into the inbox right here, because there it keeps its place among
/// the messages: a message must not overtake the `Up` that announces it.
#[derive(Clone)]
pub(super) struct Signals {
    pub(super) config: Arc<SolaceConfig>,
    pub(super) sender: mpsc::Sender<Signal>,
    pub(super) inbox: Arc<Inbox>,
}

impl Signals {
    fn send(&self, signal: Signal) {
        match self.sender.try_send(signal) {
            // Closed: the source is being dropped.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            // The supervisor is stuck in the library while connection events pour in.
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.inbox.fail(SolaceError::Overflow { capacity: self.sender.max_capacity() });
            }
        }
    }
}

impl SessionHandler for Signals {
    fn on_event(&self, event: SessionEvent) {
        if let SessionEvent::Reconnecting(source) = &event {
            let reason = chain(&no_connection(&self.config, source.clone()));
            self.inbox.tell(SourceEvent::Down { reason });
        }
        self.send(Signal::Session(event));
    }
}

/// Takes what one flow delivers.
pub(super) struct Receiver {
    generation: u32,
    signals: Signals,
    /// Whether the broker has said that the flow reads, or that it does not.
    is_decided: Mutex<bool>,
}

impl Receiver {
    pub(super) fn new(generation: u32, signals: Signals) -> Self {
        Self { generation, signals, is_decided: Mutex::new(false) }
    }

    /// Tells whether the flow reads. `Up` comes on the thread that makes the flow, `Active` on the library's: at the same
    /// time, so also in this order.
    fn tell_activity(&self, event: &FlowEvent) {
        let mut is_decided = self.is_decided.lock().unwrap_or_else(PoisonError::into_inner);
        let told = match event {
            FlowEvent::Active | FlowEvent::Reconnected => SourceEvent::Up,
            FlowEvent::Inactive => SourceEvent::Standby,
            // Bound, but whether it is the one that reads is told by `Active`, which comes at
            // once unless another consumer of an exclusive queue is reading.
            FlowEvent::Up if !*is_decided => return self.signals.inbox.tell(SourceEvent::Standby),
            FlowEvent::Up
            | FlowEvent::Reconnecting(_)
            | FlowEvent::BindFailed(_)
            | FlowEvent::Down(_)
            | FlowEvent::SessionDown
            | FlowEvent::Other => return,
        };
        *is_decided = true;
        self.signals.inbox.tell(told);
    }
}

impl FlowHandler for Receiver {
    fn on_message(&self, message: &Delivery<'_>) {
        let topic = message.topic();
        let (Some(offset), Some(id)) = (message.offset(), message.id()) else {
            return self.signals.inbox.fail(SolaceError::NoOffset { topic });
        };
        self.signals.inbox.push(Message {
            offset,
            receipt: Receipt { flow: self.generation, id },
            topic,
            payload: message.payload(),
            redelivered: message.is_redelivered(),
            properties: message.properties(),
        });
    }

    fn on_event(&self, event: FlowEvent) {
        let inbox = &self.signals.inbox;
        match &event {
            FlowEvent::Up | FlowEvent::Inactive | FlowEvent::Active | FlowEvent::Reconnected => {
                self.tell_activity(&event);
            }
            FlowEvent::Reconnecting(source) => {
                let error = refusal(&self.signals.config, "consume from", source.clone());
                inbox.tell(SourceEvent::Down { reason: chain(&error) });
            }
            // The supervisor acts on these, and tells.
            FlowEvent::BindFailed(_) | FlowEvent::Down(_) => {}
            FlowEvent::SessionDown | FlowEvent::Other => {}
        }
        self.signals.send(Signal::Flow { generation: self.generation, event });
    }

    fn on_panic(&self) {
        self.signals.inbox.fail(SolaceError::CallbackPanicked);
    }
}

/// A consumer of the queue, by client acknowledgement.
pub(crate) fn flow_properties(config: &SolaceConfig) -> Result<Properties, Failure> {
    let mut properties = Properties::new();
    let mut set = |name: &'static [u8], value: &str| properties.set(name, value);
    set(sys::SOLCLIENT_FLOW_PROP_BIND_BLOCKING, "0")?;
    set(sys::SOLCLIENT_FLOW_PROP_BIND_ENTITY_ID, text(sys::SOLCLIENT_FLOW_PROP_BIND_ENTITY_QUEUE))?;
    set(sys::SOLCLIENT_FLOW_PROP_BIND_ENTITY_DURABLE, "1")?;
    set(sys::SOLCLIENT_FLOW_PROP_BIND_NAME, &config.queue)?;
    set(sys::SOLCLIENT_FLOW_PROP_ACKMODE, text(sys::SOLCLIENT_FLOW_PROP_ACKMODE_CLIENT))?;
    set(sys::SOLCLIENT_FLOW_PROP_WINDOWSIZE, &config.window.to_string())?;
    set(sys::SOLCLIENT_FLOW_PROP_MAX_UNACKED_MESSAGES, &config.max_unacked.to_string())?;
    set(sys::SOLCLIENT_FLOW_PROP_ACK_TIMER_MS, ACK_TIMER_MS)?;
    set(sys::SOLCLIENT_FLOW_PROP_ACTIVE_FLOW_IND, "1")?;
    Ok(properties)
}

/// Creates the queue and its topics unless they are there. Blocks.
pub(super) fn provision(session: &Session, config: &SolaceConfig) -> Result<(), SolaceError> {
    let refused = |source: Failure| refusal(config, "provision", source);
    let queue = endpoint_properties(config, true).map_err(refused)?;
    session.provision(&queue).map_err(refused)?;
    let queue = endpoint_properties(config, false).map_err(refused)?;
    for topic in &config.topics {
        session.subscribe(&queue, topic).map_err(refused)?;
    }
    Ok(())
}

fn endpoint_properties(config: &SolaceConfig, is_new: bool) -> Result<Properties, Failure> {
    let mut properties = Properties::new();
    let mut set = |name: &'static [u8], value: &str| properties.set(name, value);
    set(sys::SOLCLIENT_ENDPOINT_PROP_ID, text(sys::SOLCLIENT_ENDPOINT_PROP_QUEUE))?;
    set(sys::SOLCLIENT_ENDPOINT_PROP_NAME, &config.queue)?;
    if is_new {
        set(sys::SOLCLIENT_ENDPOINT_PROP_DURABLE, "1")?;
        set(sys::SOLCLIENT_ENDPOINT_PROP_ACCESSTYPE, access(config.access))?;
    }
    Ok(properties)
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Exclusive => text(sys::SOLCLIENT_ENDPOINT_PROP_ACCESSTYPE_EXCLUSIVE),
        Access::NonExclusive => text(sys::SOLCLIENT_ENDPOINT_PROP_ACCESSTYPE_NONEXCLUSIVE),
    }
}

/// A constant of the binding without its NUL.
fn text(constant: &'static [u8]) -> &'static str {
    std::str::from_utf8(constant).map_or("", |text| text.trim_end_matches('\0'))
}

/// The broker's answer to an attempt to provision or bind, by what to do about it.
pub(crate) fn refusal(config: &SolaceConfig, action: &'static str, source: Failure) -> SolaceError {
    use crate::failure::Cause;
    let queue = config.queue.clone();
    match source.cause() {
        Cause::Login => login_refused(config, source),
        Cause::UnknownQueue => SolaceError::UnknownQueue { queue, source },
        Cause::Permission => SolaceError::Permission { queue, action, source },
        Cause::Mismatch => SolaceError::Provision { queue, source },
        Cause::TooManyConsumers | Cause::Passing => SolaceError::Unavailable { queue, source },
    }
}

/// The outcome of an attempt to connect, by what to do about it.
pub(crate) fn no_connection(config: &SolaceConfig, source: Failure) -> SolaceError {
    if source.cause() == crate::failure::Cause::Login {
        return login_refused(config, source);
    }
    SolaceError::Unreachable { host: config.host.clone(), source }
}

fn login_refused(config: &SolaceConfig, source: Failure) -> SolaceError {
    SolaceError::LoginRefused {
        host: config.host.clone(),
        vpn: config.vpn.clone(),
        username: config.username.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(events: Vec<FlowEvent>) -> Vec<SourceEvent> {
        let config =
            toml::from_str("host = 'tcp://b'\nusername = 'u'\npassword = 'p'\nqueue = 'q'");
        let (sender, _signals) = mpsc::channel(16);
        let inbox = Arc::new(Inbox::new(10, 10, 1 << 20));
        let config = Arc::new(config.unwrap());
        let signals = Signals { config, sender, inbox: Arc::clone(&inbox) };
        let receiver = Receiver::new(1, signals);
        events.into_iter().for_each(|event| receiver.on_event(event));
        let mut received = Vec::new();
        inbox.recv_many(&mut received, 10).await.unwrap();
        received
    }

    #[tokio::test]
    async fn who_reads_is_known_whichever_of_the_two_events_comes_first() {
        let orders =
            [vec![FlowEvent::Up, FlowEvent::Active], vec![FlowEvent::Active, FlowEvent::Up]];
        for events in orders {
            let received = told(events).await;
            assert!(matches!(received.as_slice(), [SourceEvent::Up]), "{received:?}");
        }
        let received = told(vec![FlowEvent::Up]).await;
        assert!(matches!(received.as_slice(), [SourceEvent::Standby]), "{received:?}");
        let received = told(vec![FlowEvent::Up, FlowEvent::Active, FlowEvent::Inactive]).await;
        assert!(matches!(received.as_slice(), [SourceEvent::Standby]), "{received:?}");
    }
}
