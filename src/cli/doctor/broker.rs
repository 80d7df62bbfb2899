//! What the client can tell of the broker: whether it is there, takes the login and has the queue.

use crate::recovery::{Finding, chain};
use crate::source::SourceError;
use crate::source::solace::{SolaceConfig, try_to_consume};

/// Binds to the queue for a moment, and takes no message.
pub(super) async fn examine(source: &SolaceConfig) -> Vec<Finding> {
    vec![match try_to_consume(source).await {
        Ok(()) => {
            Finding::ok(format!("user {} may consume queue {}", source.username, source.queue))
        }
        Err(SourceError::UnknownQueue { .. }) if source.provision => {
            Finding::ok(format!("the next start creates queue {}", source.queue))
        }
        Err(error) => Finding::problem(chain(&error), fix(&error, source)),
    }]
}

/// Commands are those of the broker's command line, in configure mode of the message VPN's spool.
fn fix(error: &SourceError, source: &SolaceConfig) -> String {
    let SolaceConfig { host, vpn, username, queue, .. } = source;
    let spool = format!("message-spool message-vpn \"{vpn}\"");
    match error {
        SourceError::LoginRefused { .. } => {
            format!(
                "correct username, password and vpn in [source], or enable client-username {username} in VPN {vpn}"
            )
        }
        SourceError::Unreachable { .. } => {
            format!(
                "start the broker, or correct host in [source]; it is {host}, and port 55555 is usual for tcp://"
            )
        }
        SourceError::UnknownQueue { .. } => format!(
            "set provision = true in [source], or on the broker: {spool}; create queue \"{queue}\"; no shutdown; \
             subscription topic \"cdc/oracle/>\""
        ),
        SourceError::Permission { .. } => format!(
            "on the broker: {spool}; queue \"{queue}\"; owner {username} (or: permission all consume)"
        ),
        SourceError::Unavailable { .. } => format!(
            "on the broker: {spool}; queue \"{queue}\"; no shutdown; and raise max-bind-count if it is reached"
        ),
        SourceError::Provision { .. }
        | SourceError::NoOffset { .. }
        | SourceError::Overflow { .. }
        | SourceError::CallbackPanicked
        | SourceError::Library { .. }
        | SourceError::File { .. } => {
            "see the message; run with RUST_LOG=debug for more".to_owned()
        }
    }
}
