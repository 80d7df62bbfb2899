//! What an error asks of the one who gets it.

/// The decision that an error carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The environment is at fault and may heal: wait and do the same again.
    Retry,
    /// The environment is at fault and an operator must repair it: stop the flow, not the process, and look
    /// again now and then.
    Hold,
    /// The data is at fault: divert it and go on.
    DeadLetter,
    /// An operator must act: stop, lose nothing.
    Stop,
}
