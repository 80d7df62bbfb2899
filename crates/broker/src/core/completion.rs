//! What waits for the disk before it is done: answers, acknowledgements, messages for queues.

use std::sync::Arc;

use crate::codec::frame::Response;
use crate::spool::Spooled;

/// Something to do when everything appended before it is on disk; done in order.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A message of a publisher flow, stored if a queue matched.
    Taken {
        name: Arc<str>,
        message_id: u64,
        spooled: Option<Spooled>,
    },
    Refused {
        name: Arc<str>,
        message_id: u64,
        response: Response,
    },
    /// A message without a flow: direct, or moved to a dead-message queue.
    Spooled {
        spooled: Spooled,
    },
    Answer {
        connection: u64,
        frame: Vec<u8>,
    },
    Opened {
        connection: u64,
        flow: u32,
        name: Arc<str>,
        open: OpenPublisher,
    },
}

/// A request to open a publisher flow.
#[derive(Debug)]
pub(crate) struct OpenPublisher {
    pub(crate) version: u8,
    pub(crate) tag: Option<[u8; 3]>,
    pub(crate) name: String,
    pub(crate) last_acked: u64,
    pub(crate) window: u32,
}
