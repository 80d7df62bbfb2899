//! What all sessions share.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::frame::MAX_HEADER_LEN;
use crate::config::{Config, User};
use crate::core::Hub;

pub(crate) struct SessionContext {
    pub(super) hub: Arc<Hub>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) max_clients: usize,
    pub(super) max_message_size: usize,
}

impl SessionContext {
    pub(crate) fn new(hub: Arc<Hub>, config: Config) -> Self {
        let Config { users, max_clients, max_message_size, .. } = config;
        Self { hub, users, max_clients, max_message_size }
    }

    /// Longest frame that is kept in memory.
    pub(super) fn max_frame(&self) -> usize {
        self.max_message_size + MAX_HEADER_LEN
    }
}
