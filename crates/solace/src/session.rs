//! A session's settings.

use std::sync::Arc;
use std::time::Duration;

use solace_rs_sys as sys;
use tidemark_base::Secret;

use super::config::SolaceConfig;
use super::failure::Failure;
use super::ffi::{Context, Properties, Session, SessionHandler};

/// Unanswered keep-alives that make a lost connection.
const KEEP_ALIVE_LIMIT: &str = "3";
/// The library's word for "for ever".
const FOR_EVER: &str = "-1";

/// Everything that a session needs to know.
pub(super) struct SessionSettings<'config> {
    pub(super) host: &'config str,
    pub(super) vpn: &'config str,
    pub(super) username: &'config str,
    pub(super) password: &'config Secret,
    pub(super) client_name: Option<&'config str>,
    pub(super) connect_timeout: Duration,
    pub(super) reconnect_wait: Duration,
    pub(super) keep_alive: Duration,
    /// Messages that may be published and not yet acknowledged, 1 to 255.
    pub(super) publish_window: u8,
}

impl<'config> From<&'config SolaceConfig> for SessionSettings<'config> {
    fn from(config: &'config SolaceConfig) -> Self {
        Self {
            host: &config.host,
            vpn: &config.vpn,
            username: &config.username,
            password: &config.password,
            client_name: config.client_name.as_deref(),
            connect_timeout: config.connect_timeout,
            reconnect_wait: config.reconnect_wait,
            keep_alive: config.keep_alive,
            publish_window: 255,
        }
    }
}

/// A session on a thread of its own, not connected yet.
pub(super) fn create(
    settings: &SessionSettings<'_>,
    handler: Box<dyn SessionHandler>,
) -> Result<Session, Failure> {
    Session::new(Arc::new(Context::new()?), &properties(settings)?, handler)
}

fn properties(settings: &SessionSettings<'_>) -> Result<Properties, Failure> {
    let mut properties = Properties::new();
    let mut set = |name: &'static [u8], value: &str| properties.set(name, value);
    set(sys::SOLCLIENT_SESSION_PROP_HOST, settings.host)?;
    set(sys::SOLCLIENT_SESSION_PROP_VPN_NAME, settings.vpn)?;
    set(sys::SOLCLIENT_SESSION_PROP_USERNAME, settings.username)?;
    set(sys::SOLCLIENT_SESSION_PROP_PASSWORD, settings.password.expose())?;
    if let Some(name) = settings.client_name {
        set(sys::SOLCLIENT_SESSION_PROP_CLIENT_NAME, name)?;
    }
    set(sys::SOLCLIENT_SESSION_PROP_CONNECT_TIMEOUT_MS, &millis(settings.connect_timeout))?;
    set(sys::SOLCLIENT_SESSION_PROP_KEEP_ALIVE_INT_MS, &millis(settings.keep_alive))?;
    set(sys::SOLCLIENT_SESSION_PROP_KEEP_ALIVE_LIMIT, KEEP_ALIVE_LIMIT)?;
    // The first connection is tried by us, so that a refused login is seen and not repeated; a
    // connection that was up is restored by the library, which also restores flows and unacked
    // publishes.
    set(sys::SOLCLIENT_SESSION_PROP_CONNECT_BLOCKING, "0")?;
    set(sys::SOLCLIENT_SESSION_PROP_CONNECT_RETRIES, "0")?;
    set(sys::SOLCLIENT_SESSION_PROP_RECONNECT_RETRIES, FOR_EVER)?;
    set(sys::SOLCLIENT_SESSION_PROP_RECONNECT_RETRY_WAIT_MS, &millis(settings.reconnect_wait))?;
    set(sys::SOLCLIENT_SESSION_PROP_PUB_WINDOW_SIZE, &settings.publish_window.to_string())?;
    // Provisioning runs at every start; a topic that is there already is fine.
    set(sys::SOLCLIENT_SESSION_PROP_IGNORE_DUP_SUBSCRIPTION_ERROR, "1")?;
    Ok(properties)
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
