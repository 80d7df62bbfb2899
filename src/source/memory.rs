//! A queue in memory, for tests: it behaves as a broker's durable queue does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Acknowledge, Pressure, Source, SourceError, SourceEvent};
use crate::model::{Message, Offset, Receipt};

/// Outlives its consumers: what they did not acknowledge comes again to the next one.
#[derive(Clone)]
pub struct MemoryQueue {
    state: Arc<Mutex<Queue>>,
    changed: Arc<Notify>,
}

struct Queue {
    spool: u64,
    next_id: u64,
    /// Number of the flow that is bound now; older ones get nothing and acknowledge nothing.
    flow: u32,
    max_unacked: usize,
    /// What the pressure is measured by.
    room: Option<usize>,
    waiting: VecDeque<Message>,
    unacked: VecDeque<Message>,
    /// Told to the consumer before any message.
    events: VecDeque<SourceEvent>,
    is_ended: bool,
}

impl MemoryQueue {
    /// `spool` is the first half of the offsets.
    pub fn new(spool: u64, max_unacked: usize) -> Self {
        let queue = Queue {
            spool,
            next_id: 1,
            flow: 0,
            max_unacked,
            room: None,
            waiting: VecDeque::new(),
            unacked: VecDeque::new(),
            events: VecDeque::new(),
            is_ended: false,
        };
        Self { state: Arc::new(Mutex::new(queue)), changed: Arc::new(Notify::new()) }
    }

    /// Consumers are under pressure as if the waiting messages were in a buffer for so many.
    pub fn set_room(&self, messages: usize) {
        self.lock().room = Some(messages);
    }

    /// Adds a message at the end of the queue and returns its offset.
    pub fn push(&self, topic: &str, payload: impl Into<Bytes>) -> Offset {
        self.push_with_properties(topic, payload, Vec::new())
    }

    pub fn push_with_properties(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        properties: Vec<(String, String)>,
    ) -> Offset {
        let mut queue = self.lock();
        let offset = Offset::new(queue.spool, queue.next_id);
        queue.next_id += 1;
        queue.waiting.push_back(Message {
            offset,
            receipt: Receipt { flow: 0, id: 0 },
            topic: topic.to_owned(),
            payload: payload.into(),
            redelivered: false,
            properties,
        });
        drop(queue);
        self.changed.notify_one();
        offset
    }

    /// Ends the source once the queue is empty, as a file ends.
    pub fn end(&self) {
        self.lock().is_ended = true;
        self.changed.notify_one();
    }

    /// Breaks the connection and restores it: unacknowledged messages come again on a new flow.
    pub fn reconnect(&self, reason: &str) {
        let mut queue = self.lock();
        queue.events.push_back(SourceEvent::Down { reason: reason.to_owned() });
        queue.bind();
        drop(queue);
        self.changed.notify_one();
    }

    /// A new consumer; the one before gets nothing any more.
    pub fn bind(&self) -> MemorySource {
        let mut queue = self.lock();
        queue.events.clear();
        queue.bind();
        drop(queue);
        MemorySource { queue: self.clone() }
    }

    /// Messages that nobody has acknowledged, delivered or not.
    pub fn depth(&self) -> usize {
        let queue = self.lock();
        queue.waiting.len() + queue.unacked.len()
    }

    /// Messages that no consumer has taken.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn bind(&mut self) {
        self.flow += 1;
        for mut message in self.unacked.drain(..).rev() {
            message.redelivered = true;
            self.waiting.push_front(message);
        }
        self.events.push_back(SourceEvent::Up);
    }

    /// Returns how many events there were, and whether none will follow.
    fn take(&mut self, buffer: &mut Vec<SourceEvent>, limit: usize) -> (usize, bool) {
        let start = buffer.len();
        while buffer.len() - start < limit {
            if let Some(event) = self.events.pop_front() {
                buffer.push(event);
                continue;
            }
            let has_room = self.unacked.len() < self.max_unacked;
            let Some(mut message) = has_room.then(|| self.waiting.pop_front()).flatten() else {
                break;
            };
            message.receipt = Receipt { flow: self.flow, id: message.offset.id };
            self.unacked.push_back(message.clone());
            buffer.push(SourceEvent::Message(message));
        }
        (buffer.len() - start, self.is_ended && self.waiting.is_empty())
    }
}

/// The consumer of a [`MemoryQueue`].
pub struct MemorySource {
    queue: MemoryQueue,
}

impl Source for MemorySource {
    type Acknowledger = MemoryAcknowledger;

    async fn recv_many(
        &mut self,
        buffer: &mut Vec<SourceEvent>,
        limit: usize,
    ) -> Result<usize, SourceError> {
        loop {
            let (count, has_ended) = self.queue.lock().take(buffer, limit);
            if count > 0 || has_ended {
                return Ok(count);
            }
            self.queue.changed.notified().await;
        }
    }

    fn pressure(&self) -> Pressure {
        let queue = self.queue.lock();
        queue.room.map_or(Pressure::Normal, |room| Pressure::of(queue.waiting.len(), room))
    }

    fn acknowledger(&self) -> MemoryAcknowledger {
        MemoryAcknowledger { queue: self.queue.clone() }
    }
}

/// Acknowledges to a [`MemoryQueue`].
#[derive(Clone)]
pub struct MemoryAcknowledger {
    queue: MemoryQueue,
}

impl Acknowledge for MemoryAcknowledger {
    async fn ack(&self, receipts: Vec<Receipt>) {
        let mut queue = self.queue.lock();
        let flow = queue.flow;
        let current = receipts.into_iter().filter(|receipt| receipt.flow == flow);
        let ids: std::collections::HashSet<u64> = current.map(|receipt| receipt.id).collect();
        queue.unacked.retain(|message| !ids.contains(&message.offset.id));
        drop(queue);
        self.queue.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::conformance::{self, TestQueue};

    impl TestQueue for MemoryQueue {
        type Source = MemorySource;

        async fn publish(&self, payloads: &[String]) {
            for payload in payloads {
                self.push("t", payload.clone());
            }
        }

        async fn bind(&self) -> MemorySource {
            MemoryQueue::bind(self)
        }

        async fn release(&self, source: MemorySource) {
            drop(source);
        }

        fn max_unacked(&self) -> usize {
            self.lock().max_unacked
        }
    }

    #[tokio::test]
    async fn keeps_the_promises_of_a_source() {
        let queue = || MemoryQueue::new(7, 100);
        conformance::messages_come_in_order_with_rising_offsets(&queue()).await;
        conformance::unacknowledged_messages_come_again_under_the_same_offsets(&queue()).await;
        conformance::acknowledged_messages_do_not_come_again(&queue()).await;
        conformance::foreign_receipts_acknowledge_nothing(&queue()).await;
        conformance::a_dropped_receive_loses_nothing(&queue()).await;
        conformance::acknowledging_makes_room_for_more(&queue()).await;
    }

    #[tokio::test]
    async fn a_reconnect_brings_unacknowledged_messages_again_on_a_new_flow() {
        let queue = MemoryQueue::new(7, 100);
        let mut source = queue.bind();
        queue.push("t", "a");
        let before = conformance::take(&mut source, 1).await;
        queue.reconnect("cable cut");
        assert!(matches!(source.recv().await, Ok(Some(SourceEvent::Down { .. }))));
        let after = conformance::take(&mut source, 1).await;
        assert_eq!(after[0].offset, before[0].offset);
        assert!(after[0].redelivered);
        source.acknowledger().ack(vec![before[0].receipt]).await;
        assert_eq!(queue.depth(), 1);
        source.acknowledger().ack(vec![after[0].receipt]).await;
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test]
    async fn the_limit_of_unacknowledged_messages_holds_the_rest_back() {
        let queue = MemoryQueue::new(7, 2);
        let mut source = queue.bind();
        for payload in ["a", "b", "c"] {
            queue.push("t", payload);
        }
        let mut events = Vec::new();
        assert_eq!(source.recv_many(&mut events, 10).await.unwrap(), 3);
        assert!(matches!(events[0], SourceEvent::Up));
        assert_eq!(queue.depth(), 3);
    }

    #[tokio::test]
    async fn an_ended_queue_ends_its_source() {
        let queue = MemoryQueue::new(7, 2);
        let mut source = queue.bind();
        queue.push("t", "a");
        queue.end();
        assert_eq!(conformance::take(&mut source, 1).await.len(), 1);
        assert!(source.recv().await.unwrap().is_none());
    }
}
