//! What a consumer hears.

use crate::Message;

/// What a source tells.
#[derive(Debug)]
pub enum SourceEvent {
    Message(Message),
    /// Bound to the queue (again) and the one that reads it: messages come.
    ///
    /// After a `Down` or `Standby` another consumer of the queue may have committed in between: state
    /// that was loaded before is to be checked against the ledger.
    Up,
    /// Bound to an exclusive queue that another consumer is reading; `Up` follows when that leaves.
    Standby,
    /// No messages until the next `Up`; the source is trying by itself.
    Down {
        reason: String,
    },
}
