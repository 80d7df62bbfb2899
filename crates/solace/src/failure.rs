//! Failures in the broker's own words, by cause.

use std::fmt;

use solace_rs_sys as sys;

/// Why a call of the client library failed, or what an event says: the broker's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    subcode: u32,
    /// The library's name of the subcode; empty if it has none for this failure.
    name: Box<str>,
    text: Box<str>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.text.is_empty(), self.name.is_empty()) {
            (true, _) => f.write_str(&self.name),
            (false, true) => f.write_str(&self.text),
            (false, false) => write!(f, "{} ({})", self.text, self.name),
        }
    }
}

/// What a failure means for whoever wants to consume or publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// User name, password, VPN or client name: the same again on every try.
    Login,
    UnknownQueue,
    Permission,
    /// Access type, durability and the like differ from what exists.
    Mismatch,
    /// The queue has as many consumers as it may have.
    TooManyConsumers,
    /// Everything that time may heal: no connection, a shutdown, a standby broker.
    Passing,
}

impl Failure {
    pub(super) fn new(subcode: u32, name: &str, text: impl Into<String>) -> Self {
        let name = name.strip_prefix("SOLCLIENT_SUBCODE_").unwrap_or(name);
        Self { subcode, name: name.into(), text: text.into().into() }
    }

    /// A text that cannot be handed to C.
    pub(super) fn nul(what: &str) -> Self {
        Self::new(0, "", format!("{what} holds a NUL character"))
    }

    pub(super) fn with_text(self, text: String) -> Self {
        Self { text: text.into(), ..self }
    }

    pub(super) fn cause(&self) -> Cause {
        match self.subcode {
            sys::solClient_subCode_SOLCLIENT_SUBCODE_LOGIN_FAILURE
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_MSG_VPN_NOT_ALLOWED
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_CLIENT_ACL_DENIED
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_CLIENT_NAME_INVALID
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_CLIENT_USERNAME_IS_SHUTDOWN
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_BASIC_AUTHENTICATION_IS_SHUTDOWN => {
                Cause::Login
            }
            sys::solClient_subCode_SOLCLIENT_SUBCODE_UNKNOWN_QUEUE_NAME
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_QUEUE_NOT_FOUND => Cause::UnknownQueue,
            sys::solClient_subCode_SOLCLIENT_SUBCODE_PERMISSION_NOT_ALLOWED
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_SUBSCRIPTION_ACL_DENIED
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_SUBSCRIPTION_MANAGER_DENIED => {
                Cause::Permission
            }
            sys::solClient_subCode_SOLCLIENT_SUBCODE_ENDPOINT_PROPERTY_MISMATCH
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_INVALID_TOPIC_SYNTAX
            | sys::solClient_subCode_SOLCLIENT_SUBCODE_SUBSCRIPTION_INVALID => Cause::Mismatch,
            sys::solClient_subCode_SOLCLIENT_SUBCODE_MAX_CLIENTS_FOR_QUEUE => {
                Cause::TooManyConsumers
            }
            _ => Cause::Passing,
        }
    }
}

impl Failure {
    /// Whether the broker or the library refuses this one message and would take others.
    pub fn is_of_message(&self) -> bool {
        matches!(
            self.subcode,
            sys::solClient_subCode_SOLCLIENT_SUBCODE_MESSAGE_TOO_LARGE
                | sys::solClient_subCode_SOLCLIENT_SUBCODE_NO_SUBSCRIPTION_MATCH
                | sys::solClient_subCode_SOLCLIENT_SUBCODE_TOPIC_TOO_LARGE
                | sys::solClient_subCode_SOLCLIENT_SUBCODE_INVALID_TOPIC_SYNTAX
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_words_come_first_and_the_subcode_in_brackets() {
        let failure = Failure::new(61, "SOLCLIENT_SUBCODE_UNKNOWN_QUEUE_NAME", "Unknown Queue");
        assert_eq!(failure.to_string(), "Unknown Queue (UNKNOWN_QUEUE_NAME)");
        assert_eq!(failure.cause(), Cause::UnknownQueue);
    }

    #[test]
    fn an_unknown_subcode_is_worth_another_try() {
        assert_eq!(Failure::new(14, "COMMUNICATION_ERROR", "refused").cause(), Cause::Passing);
        assert_eq!(Failure::new(9999, "", "?").cause(), Cause::Passing);
    }
}
