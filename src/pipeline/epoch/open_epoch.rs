//! An epoch in the making.

use std::collections::HashSet;
use std::time::SystemTime;

use crate::decode::Decoded;
use crate::model::{EpochCommit, Message, Offset};
use crate::telemetry::Stages;

/// An epoch in the making.
pub(super) struct OpenEpoch {
    /// Without those that are known to fail, once it is decoded.
    pub(super) messages: Vec<Message>,
    pub(super) opened_at: SystemTime,
    pub(super) stages: Stages,
}

impl OpenEpoch {
    pub(super) fn new(messages: Vec<Message>, opened_at: SystemTime) -> Self {
        Self { messages, opened_at, stages: Stages::start() }
    }
}

/// What the messages of an epoch say.
pub(super) enum Decoding {
    /// Something that a query waits for. They come again, to a session that knows it.
    Lesson(Box<EpochCommit>),
    Changes(Box<Decoded>),
}

/// What an epoch commits, and what was left out of it.
pub(super) struct Applied {
    pub(super) commit: EpochCommit,
    /// Events with snapshot rows that are older than what is known of their keys.
    pub(super) stale_snapshots: HashSet<Offset>,
}
