//! Why there are no messages, by what to do about it.

use tidemark_base::Recovery;

use super::failure::Failure;

/// Why a consumer does not go on.
#[derive(Debug, thiserror::Error)]
pub enum SolaceError {
    #[error(
        "the broker at {host} refused the login of '{username}' to message VPN '{vpn}': check user name, password, VPN and client name"
    )]
    LoginRefused {
        host: String,
        vpn: String,
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
    #[error("the broker has no queue '{queue}': create it, or set source.provision = true")]
    UnknownQueue {
        queue: String,
        #[source]
        source: Failure,
    },
    #[error(
        "the user may not {action} the queue '{queue}': grant the permission on the broker, or use its owner"
    )]
    Permission {
        queue: String,
        action: &'static str,
        #[source]
        source: Failure,
    },
    #[error(
        "the queue '{queue}' cannot be provisioned as configured: compare source.access and source.topics with the broker"
    )]
    Provision {
        queue: String,
        #[source]
        source: Failure,
    },
    #[error("the queue '{queue}' takes no consumer now")]
    Unavailable {
        queue: String,
        #[source]
        source: Failure,
    },
    /// Nothing could be deduplicated, so nothing may be consumed.
    #[error(
        "the message on '{topic}' has no replication group message id: the broker must be 10.0 or newer"
    )]
    NoOffset { topic: String },
    #[error(
        "more than {capacity} messages were delivered without being acknowledged: the broker ignores the flow's limits"
    )]
    Overflow { capacity: usize },
    #[error("a callback of the client library panicked, so a message may be missing")]
    CallbackPanicked,
    #[error("the client library refused to {action}")]
    Library {
        action: &'static str,
        #[source]
        source: Failure,
    },
}

impl SolaceError {
    /// What helps: another try, or an operator.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Unreachable { .. } | Self::Unavailable { .. } => Recovery::Retry,
            Self::LoginRefused { .. }
            | Self::UnknownQueue { .. }
            | Self::Permission { .. }
            | Self::Provision { .. }
            | Self::NoOffset { .. }
            | Self::Overflow { .. }
            | Self::CallbackPanicked
            | Self::Library { .. } => Recovery::Stop,
        }
    }
}
