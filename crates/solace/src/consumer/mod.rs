//! A consumer of one queue.
//!
//! [`supervisor`] keeps a [`flow`] bound, [`bound`] lets it be found by those who acknowledge, and [`inbox`] is
//! between the library's thread and ours.

mod bound;
mod event;
pub(crate) mod flow;
mod inbox;
mod pressure;
mod supervisor;

pub use event::SourceEvent;
pub use pressure::{Pressure, PressureGauge};

use std::sync::Arc;

use bytesize::ByteSize;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use bound::Bound;
use inbox::Inbox;
use supervisor::Supervisor;

use crate::config::SolaceConfig;
use crate::ffi::Flow;
use crate::{Receipt, SolaceError};

/// Where nobody says how much.
const DEFAULT_MAX_BUFFERED: ByteSize = ByteSize::mib(64);

/// A consumer of one queue, which connects and reconnects by itself.
pub struct SolaceSource {
    inbox: Arc<Inbox>,
    bound: Bound<Flow>,
    supervisor: JoinHandle<()>,
    /// Ends the supervisor, which releases flow and session.
    running: DropGuard,
}

impl SolaceSource {
    /// Starts to connect in the background: the events tell how it goes. Must run in a Tokio runtime.
    pub fn start(config: SolaceConfig) -> Self {
        let max_bytes = config.max_buffered.unwrap_or(DEFAULT_MAX_BUFFERED).0 as usize;
        let inbox = Inbox::new(config.max_unacked as usize, usize::from(config.window), max_bytes);
        let (inbox, bound) = (Arc::new(inbox), Bound::default());
        let supervisor = Supervisor::new(config, Arc::clone(&inbox), bound.clone());
        let stop = CancellationToken::new();
        let supervisor = tokio::spawn(supervisor.run(stop.clone()));
        Self { inbox, bound, supervisor, running: stop.drop_guard() }
    }
}

impl SolaceSource {
    /// Appends at least one and at most `limit` events to `buffer`; returns how many, 0 after an error. Cancel-safe.
    ///
    /// # Errors
    /// What a restart of the same configuration would not heal; nothing comes after it.
    pub async fn recv_many(
        &mut self,
        buffer: &mut Vec<SourceEvent>,
        limit: usize,
    ) -> Result<usize, SolaceError> {
        self.inbox.recv_many(buffer, limit).await
    }

    /// How full the receive buffer is.
    pub fn pressure(&self) -> Pressure {
        self.inbox.pressure()
    }

    /// A handle that acknowledges while somebody else receives.
    pub fn acknowledger(&self) -> SolaceAcknowledger {
        SolaceAcknowledger { bound: self.bound.clone() }
    }

    /// Ends in good order: waiting acknowledgements go out, and the queue gets back the rest.
    pub async fn close(self) {
        drop(self.running);
        let ended = self.supervisor.await;
        tracing::debug!(?ended, "source closed");
    }
}

/// Acknowledges on whatever flow is bound.
#[derive(Clone)]
pub struct SolaceAcknowledger {
    bound: Bound<Flow>,
}

impl SolaceAcknowledger {
    /// Acknowledges each of these messages, in any order. Receipts of another flow are skipped: their messages
    /// come again.
    pub async fn ack(&self, receipts: Vec<Receipt>) {
        let bound = self.bound.clone();
        // Waits for a flow that is being made; the library may wait for a full socket.
        let acked = tokio::task::spawn_blocking(move || {
            let Some((generation, flow)) = bound.get() else { return 0 };
            let current = receipts.iter().filter(|receipt| receipt.flow == generation);
            current.filter(|receipt| flow.ack(receipt.id).is_err()).count()
        });
        match acked.await {
            Ok(0) => {}
            // Harmless: those messages come again and are recognised by their offsets.
            skipped => tracing::debug!(?skipped, "acknowledgements that the flow did not take"),
        }
    }
}
