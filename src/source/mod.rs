//! Where the events come from: a queue of a Solace broker, a file to replay, or memory for tests.
//!
//! A source hands out messages and takes acknowledgements back. It does not decode, and it does not
//! remember what was processed: that is the ledger's.

#[doc(hidden)]
pub mod conformance;
pub mod file;
pub mod memory;

mod config;
mod error;
mod solace_source;

pub use config::SourceConfig;
pub use error::SourceError;
pub use tidemark_solace as solace;
pub use tidemark_solace::{Pressure, SourceEvent};

use std::future::Future;

use crate::model::Receipt;

/// A queue of messages. There is one per process.
///
/// * **Ordering.** Messages come in the order of the queue. Redelivered ones come again before any
///   newer one, with the same offset and `redelivered` set. After a consumer died, or on a
///   non-exclusive queue, offsets may go back.
/// * **Delivery.** At least once: until a message is acknowledged it may come again, with the
///   same offset and a new receipt, and also while the first copy is still being processed.
/// * **Cancellation.** Both receives are cancel-safe: a dropped future has taken nothing.
/// * **Back-pressure.** Who does not receive stops the flow: a source buffers a bounded number of
///   messages and then leaves the rest with the broker.
/// * **Connection loss** is an event, not an error: the source reconnects for ever.
/// * **Shutdown.** [`Source::close`] gives unacknowledged messages back to the queue.
pub trait Source: Send {
    type Acknowledger: Acknowledge;

    /// Appends at least one and at most `limit` events to `buffer`, without waiting for more than
    /// the first. Returns how many; 0 means that the source has ended (a file, or after an error).
    ///
    /// # Errors
    /// What a restart of the same configuration would not heal; nothing comes after it.
    fn recv_many(
        &mut self,
        buffer: &mut Vec<SourceEvent>,
        limit: usize,
    ) -> impl Future<Output = Result<usize, SourceError>> + Send;

    /// The next event; `None` when the source has ended.
    ///
    /// # Errors
    /// As [`Source::recv_many`].
    fn recv(&mut self) -> impl Future<Output = Result<Option<SourceEvent>, SourceError>> + Send {
        async {
            let mut events = Vec::with_capacity(1);
            self.recv_many(&mut events, 1).await?;
            Ok(events.pop())
        }
    }

    /// How full the receive buffer is. A source without one is never under pressure.
    fn pressure(&self) -> Pressure {
        Pressure::Normal
    }

    /// A handle that acknowledges while somebody else receives.
    fn acknowledger(&self) -> Self::Acknowledger;

    /// Ends in good order: acknowledgements that wait in a library go out, and the queue gets back
    /// what was not acknowledged. Dropping does the same without waiting for it.
    fn close(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async { drop(self) }
    }
}

/// Tells the broker which messages it may forget.
pub trait Acknowledge: Clone + Send + Sync + 'static {
    /// Acknowledges each of these messages (not "all up to"), in any order.
    ///
    /// Idempotent. Receipts of an older flow, or of a flow that is down, are skipped: their
    /// messages come again. An acknowledgement may wait in the client for a moment, so that a kill
    /// right after this returned brings the message back.
    fn ack(&self, receipts: Vec<Receipt>) -> impl Future<Output = ()> + Send;
}
