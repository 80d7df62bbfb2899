//! Connects, provisions and binds, again and again.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::bound::Bound;
use super::event::SourceEvent;
use super::flow::{Receiver, Signal, Signals, flow_properties, no_connection, provision, refusal};
use super::inbox::{Inbox, Valve};
use super::pressure::PressureGauge;
use crate::SolaceError;
use crate::config::SolaceConfig;
use crate::failure::Failure;
use crate::ffi::{Flow, FlowEvent, Session, SessionEvent};
use crate::session::{self, SessionSettings};
use tidemark_base::{Recovery, chain};

/// Keeps a flow bound, whatever happens to the connection.
///
/// ```text
/// connecting --up--> provisioning --ok--> binding --up--> consuming
///   ^  |                  |                 |  ^             |
///   |  failed: wait       |                 |  '-- wait <----'  flow lost (queue shut down or deleted)
///   '------------- session given up <-------'----------------'
/// ```
///
/// A connection that breaks while consuming is the library's to restore, with the flow on it.
pub(super) struct Supervisor {
    config: Arc<SolaceConfig>,
    inbox: Arc<Inbox>,
    bound: Bound<Flow>,
    signals: mpsc::Receiver<Signal>,
    sender: Signals,
    generation: u32,
    /// Once it has consumed, no answer of the broker is taken for a mistake in the configuration:
    /// queues are shut down and restored, and the source waits for that.
    has_consumed: bool,
}

/// What a round of consuming ended with.
enum Lost {
    Flow(SolaceError),
    Session(SolaceError),
}

impl Supervisor {
    pub(super) fn new(config: SolaceConfig, inbox: Arc<Inbox>, bound: Bound<Flow>) -> Self {
        let (sender, signals) = mpsc::channel(256);
        let config = Arc::new(config);
        let sender = Signals { config: Arc::clone(&config), sender, inbox: Arc::clone(&inbox) };
        Self { config, inbox, bound, signals, sender, generation: 0, has_consumed: false }
    }

    /// Runs until `stop`, or until an error that no retry heals, which it tells through the inbox.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let ended = stop.run_until_cancelled(self.keep_consuming()).await;
        self.release().await;
        if let Some(Err(error)) = ended {
            self.inbox.fail(error);
        }
    }

    async fn keep_consuming(&mut self) -> Result<Infallible, SolaceError> {
        let settings = SessionSettings::from(&*self.config);
        let session = session::create(&settings, Box::new(self.sender.clone()))
            .map_err(|source| SolaceError::Library { action: "create a session", source })?;
        let session = Arc::new(session);
        loop {
            if let Err(error) = self.connect(&session).await {
                self.wait_or_stop(error).await?;
                continue;
            }
            let lost = self.consume_while_connected(&session).await?;
            // After the library gave up, a session takes a new `connect` only once it was closed.
            let closing = Arc::clone(&session);
            let closed = blocking(move || closing.disconnect()).await;
            tracing::debug!(?closed, "session closed");
            self.wait_or_stop(lost).await?;
        }
    }

    async fn connect(&mut self, session: &Session) -> Result<(), SolaceError> {
        tracing::info!(host = self.config.host, vpn = self.config.vpn, "connecting to the broker");
        session.connect().map_err(|source| no_connection(&self.config, source))?;
        while let Some(signal) = self.signals.recv().await {
            match signal {
                Signal::Session(SessionEvent::Up) => return Ok(()),
                Signal::Session(
                    SessionEvent::ConnectFailed(source) | SessionEvent::Down(source),
                ) => return Err(no_connection(&self.config, source)),
                Signal::Session(_) | Signal::Flow { .. } => {}
            }
        }
        Err(no_connection(&self.config, Failure::new(0, "", "the session has no events any more")))
    }

    /// Binds again and again; returns why the session is lost.
    async fn consume_while_connected(
        &mut self,
        session: &Arc<Session>,
    ) -> Result<SolaceError, SolaceError> {
        loop {
            let lost = match self.bind(session).await {
                Ok(()) => self.consume().await,
                Err(error) => Lost::Flow(error),
            };
            self.release().await;
            match lost {
                Lost::Session(error) => return Ok(error),
                Lost::Flow(error) => self.wait_or_stop(error).await?,
            }
        }
    }

    async fn bind(&mut self, session: &Arc<Session>) -> Result<(), SolaceError> {
        if self.config.provision {
            let (session, config) = (Arc::clone(session), Arc::clone(&self.config));
            blocking(move || provision(&session, &config)).await?;
        }
        // What an older flow delivered comes again, since nobody can acknowledge it any more.
        self.inbox.discard_messages();
        self.generation += 1;
        let receiver = Receiver::new(self.generation, self.sender.clone());
        let refused = |source| refusal(&self.config, "consume from", source);
        let properties = flow_properties(&self.config).map_err(refused)?;
        let session = Arc::clone(session);
        let make = move || Flow::bind(session, &properties, Box::new(receiver));
        self.bound.publish(self.generation, make).map_err(refused)
    }

    /// Until the flow or its session is lost.
    async fn consume(&mut self) -> Lost {
        let (mut is_open, mut pressure) = (true, PressureGauge::new());
        loop {
            let inbox = Arc::clone(&self.inbox);
            let lost = tokio::select! {
                // Connection events first: they are rare and everything depends on them.
                biased;
                signal = self.signals.recv() => signal.and_then(|signal| self.follow(signal)),
                () = inbox.valve_may_have_changed() => {
                    inbox.show(&mut pressure);
                    self.turn_valve(&mut is_open).await
                }
            };
            if let Some(lost) = lost {
                return lost;
            }
        }
    }

    fn follow(&mut self, signal: Signal) -> Option<Lost> {
        match signal {
            Signal::Flow { generation, event } if generation == self.generation => {
                self.follow_flow(event)
            }
            // A late word of a flow that is gone.
            Signal::Flow { .. } => None,
            Signal::Session(SessionEvent::Down(source) | SessionEvent::ConnectFailed(source)) => {
                Some(Lost::Session(no_connection(&self.config, source)))
            }
            Signal::Session(SessionEvent::Reconnecting(source)) => {
                warn_down(&chain(&no_connection(&self.config, source)));
                None
            }
            Signal::Session(
                SessionEvent::Up
                | SessionEvent::Reconnected
                | SessionEvent::Acknowledged(_)
                | SessionEvent::Rejected(..)
                | SessionEvent::Other,
            ) => None,
        }
    }

    fn follow_flow(&mut self, event: FlowEvent) -> Option<Lost> {
        tracing::debug!(?event, generation = self.generation, "flow event");
        match event {
            FlowEvent::Up | FlowEvent::Inactive => {
                self.has_consumed = true;
                tracing::debug!(queue = self.config.queue, "bound, not reading");
                None
            }
            FlowEvent::Active | FlowEvent::Reconnected => {
                tracing::info!(queue = self.config.queue, "consuming from the queue");
                None
            }
            FlowEvent::Reconnecting(source) => {
                warn_down(&chain(&refusal(&self.config, "consume from", source)));
                None
            }
            FlowEvent::BindFailed(source) | FlowEvent::Down(source) => {
                Some(Lost::Flow(refusal(&self.config, "consume from", source)))
            }
            // The session's own events say what happens to it.
            FlowEvent::SessionDown | FlowEvent::Other => None,
        }
    }

    /// Stops and starts the flow as the inbox asks. The library takes both while the session is
    /// down, too, and remembers them.
    async fn turn_valve(&self, is_open: &mut bool) -> Option<Lost> {
        let (_, flow) = self.bound.get()?;
        let turned = match (self.inbox.valve(), *is_open) {
            (Valve::Close, true) => blocking(move || flow.stop()).await,
            (Valve::Open, false) => blocking(move || flow.start()).await,
            (Valve::Open | Valve::Keep, true) | (Valve::Close | Valve::Keep, false) => return None,
        };
        *is_open = !*is_open;
        tracing::debug!(is_open, ?turned, "flow valve turned");
        // A flow that does not obey would starve or flood us: replace it.
        turned.err().map(|source| Lost::Flow(refusal(&self.config, "consume from", source)))
    }

    /// Destroys the flow, which gives its messages back to the queue. Blocks in the library.
    async fn release(&self) {
        let Some((_, flow)) = self.bound.take() else { return };
        let stopped = blocking(move || {
            // A closing window takes the waiting acknowledgements along.
            let stopped = flow.stop();
            drop(flow);
            stopped
        });
        let stopped = stopped.await;
        tracing::debug!(?stopped, "flow released");
    }

    /// # Errors
    /// `error` itself, if waiting does not help.
    async fn wait_or_stop(&self, error: SolaceError) -> Result<(), SolaceError> {
        if error.recovery() == Recovery::Stop && !self.has_consumed {
            return Err(error);
        }
        self.report_down(&error);
        tokio::time::sleep(self.config.reconnect_wait).await;
        Ok(())
    }

    fn report_down(&self, error: &SolaceError) {
        let reason = chain(error);
        warn_down(&reason);
        self.inbox.tell(SourceEvent::Down { reason });
    }
}

fn warn_down(reason: &str) {
    tracing::warn!(reason, "the source is down");
}

/// Runs a call of the library that may wait for the network.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(call).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is ending, and this task with it.
        Err(_) => std::future::pending().await,
    }
}
