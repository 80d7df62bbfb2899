//! What the client can tell of the broker: whether it is there, takes the login and has the queue.

use std::time::Duration;

use crate::config::DeadLetterConfig;
use crate::diagnosis::Finding;
use crate::resilience::chain;
use crate::source::solace::{
    PublishConfig, SolaceConfig, SolaceError, try_to_consume, try_to_publish,
};

/// For a connection, a message and its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Binds to the queue for a moment, and takes no message.
pub(super) async fn examine(source: &SolaceConfig) -> Vec<Finding> {
    vec![match try_to_consume(source).await {
        Ok(()) => {
            Finding::ok(format!("user {} may consume queue {}", source.username, source.queue))
        }
        Err(SolaceError::UnknownQueue { .. }) if source.provision => {
            Finding::ok(format!("the next start creates queue {}", source.queue))
        }
        Err(error) => Finding::problem(chain(&error), fix(&error, source)),
    }]
}

/// Whether dead letters may be published, if they are: by a message of its own, because brokers don't tell otherwise.
pub(super) async fn examine_letters(
    source: &SolaceConfig,
    letters: &DeadLetterConfig,
    may_publish: bool,
) -> Finding {
    let topic = format!("{}/tidemark/doctor", letters.topic_prefix);
    if !letters.publish {
        return Finding::ok("dead letters are not published");
    }
    if !may_publish {
        return Finding::unknown(format!(
            "right to publish dead letters: give --publish, which sends one message to {topic}"
        ));
    }
    let config = PublishConfig {
        host: source.host.clone(),
        vpn: source.vpn.clone(),
        username: source.username.clone(),
        password: source.password.clone(),
        window: 1,
    };
    let (user, prefix) = (&source.username, &letters.topic_prefix);
    let fix = format!(
        "on the broker: let the ACL profile of client-username {user} publish to {prefix}/> and its client profile send \
         guaranteed messages, or set dead_letters.publish = false"
    );
    match tokio::time::timeout(PATIENCE, try_to_publish(&config, &topic)).await {
        Ok(Ok(None)) => Finding::ok(format!("user {user} may publish to {topic}")),
        // As when no queue takes it: also a dead letter would stay in its table then.
        Ok(Ok(Some(failure))) if failure.is_of_message() => {
            Finding::unknown(format!("right to publish dead letters: {failure}"))
        }
        Ok(Ok(Some(failure))) => {
            Finding::problem(format!("user {user} may not publish to {topic}: {failure}"), fix)
        }
        Ok(Err(error)) => Finding::problem(chain(&error), fix),
        Err(_) => Finding::problem(format!("no answer to a message to {topic}"), fix),
    }
}

/// Commands are those of the broker's command line, in configure mode of the message VPN's spool.
fn fix(error: &SolaceError, source: &SolaceConfig) -> String {
    let SolaceConfig { host, vpn, username, queue, .. } = source;
    let spool = format!("message-spool message-vpn \"{vpn}\"");
    match error {
        SolaceError::LoginRefused { .. } => {
            format!(
                "correct username, password and vpn in [source], or enable client-username {username} in VPN {vpn}"
            )
        }
        SolaceError::Unreachable { .. } => {
            format!(
                "start the broker, or correct host in [source]; it is {host}, and port 55555 is usual for tcp://"
            )
        }
        SolaceError::UnknownQueue { .. } => format!(
            "set provision = true in [source], or on the broker: {spool}; create queue \"{queue}\"; no shutdown; {}",
            subscriptions(source)
        ),
        SolaceError::Permission { .. } => format!(
            "on the broker: {spool}; queue \"{queue}\"; owner {username} (or: permission all consume)"
        ),
        SolaceError::Unavailable { .. } => format!(
            "on the broker: {spool}; queue \"{queue}\"; no shutdown; and raise max-bind-count if it is reached"
        ),
        SolaceError::Provision { .. }
        | SolaceError::NoOffset { .. }
        | SolaceError::Overflow { .. }
        | SolaceError::CallbackPanicked
        | SolaceError::Library { .. } => {
            "see the message; run with RUST_LOG=debug for more".to_owned()
        }
    }
}

/// Those of the configuration; without any, only the publisher knows them.
fn subscriptions(source: &SolaceConfig) -> String {
    if source.topics.is_empty() {
        return "subscription topic \"THE TOPIC OF THE EVENTS\"".to_owned();
    }
    let topics = source.topics.iter().map(|topic| format!("subscription topic \"{topic}\""));
    topics.collect::<Vec<_>>().join("; ")
}
