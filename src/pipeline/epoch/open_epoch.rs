//! An epoch in the making.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::decode::Decoded;
use crate::model::{EpochCommit, Message, Offset};
use crate::telemetry::Stages;

/// An epoch in the making.
pub(super) struct OpenEpoch {
    /// Without those that are known to fail, once it is decoded.
    pub(super) messages: Arc<Vec<Message>>,
    pub(super) opened_at: SystemTime,
    pub(super) stages: Stages,
}

impl OpenEpoch {
    pub(super) fn new(messages: Arc<Vec<Message>>, opened_at: SystemTime) -> Self {
        Self { messages, opened_at, stages: Stages::start() }
    }
}

/// Takes messages out. The session keeps the batch until its epoch is committed, so the rest is copied, but only if
/// something goes.
pub(super) fn retain(messages: &mut Arc<Vec<Message>>, is_kept: impl FnMut(&Message) -> bool) {
    let is_kept: Vec<bool> = messages.iter().map(is_kept).collect();
    if is_kept.contains(&false) {
        let rest = messages.iter().zip(is_kept).filter(|(_, is_kept)| *is_kept);
        *messages = Arc::new(rest.map(|(message, _)| message.clone()).collect());
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::Receipt;

    fn message(id: u64) -> Message {
        Message {
            offset: Offset::new(7, id),
            receipt: Receipt { flow: 1, id },
            topic: String::new(),
            payload: Bytes::new(),
            redelivered: false,
            properties: Vec::new(),
        }
    }

    #[test]
    fn what_is_taken_out_stays_in_the_batch_of_the_session() {
        let batch = Arc::new((1..=3).map(message).collect::<Vec<_>>());
        let mut messages = Arc::clone(&batch);
        retain(&mut messages, |_| true);
        assert!(Arc::ptr_eq(&messages, &batch));
        retain(&mut messages, |message| message.offset.id != 2);
        let ids = |messages: &[Message]| messages.iter().map(|m| m.offset.id).collect::<Vec<_>>();
        assert_eq!((ids(&messages), ids(&batch)), (vec![1, 3], vec![1, 2, 3]));
    }
}
