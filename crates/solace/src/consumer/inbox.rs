//! The buffer between the library's thread and the consumer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::event::SourceEvent;
use super::pressure::{Pressure, PressureGauge};
use crate::{Message, SolaceError};

/// What the library's callbacks have delivered and the consumer has not received yet.
///
/// Bounded. Not a Tokio channel, because connection events must find room when messages fill it,
/// a new flow takes back what the old one delivered, and a batch is taken under one lock.
/// The lock is held for a push or the move of a batch, never across a wait.
pub(super) struct Inbox {
    state: Mutex<Contents>,
    arrived: Notify,
    /// Told when the number of messages comes to another step of the ladder, or falls to `low`.
    valve: Notify,
    capacity: usize,
    /// For so many messages there is room before the flow is stopped.
    room: usize,
    /// And for so many bytes of payloads.
    bytes: usize,
    low: usize,
}

struct Contents {
    events: VecDeque<SourceEvent>,
    messages: usize,
    /// Of their payloads.
    bytes: usize,
    failure: Option<SolaceError>,
    has_ended: bool,
}

/// What the fill of the inbox asks of the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Valve {
    Open,
    Keep,
    Close,
}

impl Inbox {
    /// Room for everything that the limits allow, twice: when the library binds a flow again by
    /// itself, the broker may send once more what is still here. Half of `max_unacked` is to be here at most:
    /// the flow is stopped when that is about full, and started again at half of it. Large messages fill it earlier, with
    /// `max_bytes` of payloads. What is under way when it is stopped still comes: at most a window.
    pub(super) fn new(max_unacked: usize, window: usize, max_bytes: usize) -> Self {
        let state = Contents {
            events: VecDeque::new(),
            messages: 0,
            bytes: 0,
            failure: None,
            has_ended: false,
        };
        Self {
            state: Mutex::new(state),
            arrived: Notify::new(),
            valve: Notify::new(),
            capacity: 2 * max_unacked + window,
            room: (max_unacked / 2).max(1),
            bytes: max_bytes.max(1),
            low: max_unacked / 4,
        }
    }

    /// Called on the library's thread.
    pub(super) fn push(&self, message: Message) {
        let mut state = self.lock();
        if state.messages >= self.capacity {
            drop(state);
            return self.fail(SolaceError::Overflow { capacity: self.capacity });
        }
        let was_empty = state.events.is_empty();
        let before = Pressure::of(self.filled(&state), self.room);
        state.messages += 1;
        state.bytes += message.payload.len();
        state.events.push_back(SourceEvent::Message(message));
        let rises = before != Pressure::of(self.filled(&state), self.room);
        drop(state);
        if was_empty {
            self.arrived.notify_one();
        }
        if rises {
            self.valve.notify_one();
        }
    }

    /// Adds a connection event; one that follows another without a message between replaces it, so
    /// that a flapping connection takes no room.
    pub(super) fn tell(&self, event: SourceEvent) {
        let mut state = self.lock();
        let follows_another =
            state.events.back().is_some_and(|last| !matches!(last, SourceEvent::Message(_)));
        if follows_another {
            state.events.pop_back();
        }
        state.events.push_back(event);
        drop(state);
        self.arrived.notify_one();
    }

    /// Ends the source with an error; the first one counts.
    pub(super) fn fail(&self, error: SolaceError) {
        let mut state = self.lock();
        if !state.has_ended {
            state.has_ended = true;
            state.failure = Some(error);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Forgets the messages of a flow that is gone: the broker will send them again.
    pub(super) fn discard_messages(&self) {
        let mut state = self.lock();
        state.events.retain(|event| !matches!(event, SourceEvent::Message(_)));
        (state.messages, state.bytes) = (0, 0);
    }

    /// At most `limit` events, and fewer if their payloads have more bytes than there is room for. Cancel-safe: nothing is
    /// taken before it returns.
    pub(super) async fn recv_many(
        &self,
        buffer: &mut Vec<SourceEvent>,
        limit: usize,
    ) -> Result<usize, SolaceError> {
        loop {
            if let Some(result) = self.take(buffer, limit) {
                return result;
            }
            self.arrived.notified().await;
        }
    }

    fn take(
        &self,
        buffer: &mut Vec<SourceEvent>,
        limit: usize,
    ) -> Option<Result<usize, SolaceError>> {
        let mut state = self.lock();
        if state.has_ended {
            return Some(state.failure.take().map_or(Ok(0), Err));
        }
        let before = self.filled(&state);
        let (start, mut bytes) = (buffer.len(), 0);
        while buffer.len() - start < limit && bytes < self.bytes {
            let Some(event) = state.events.pop_front() else { break };
            if let SourceEvent::Message(message) = &event {
                bytes += message.payload.len();
                state.messages -= 1;
            }
            buffer.push(event);
        }
        let count = buffer.len() - start;
        if count == 0 {
            return None;
        }
        state.bytes -= bytes;
        let after = self.filled(&state);
        let has_fallen_low = before > self.low && after <= self.low;
        let falls = Pressure::of(before, self.room) != Pressure::of(after, self.room);
        drop(state);
        if has_fallen_low || falls {
            self.valve.notify_one();
        }
        Some(Ok(count))
    }

    pub(super) fn valve(&self) -> Valve {
        let filled = self.filled(&self.lock());
        if Pressure::of(filled, self.room) == Pressure::Stopped {
            Valve::Close
        } else if filled <= self.low {
            Valve::Open
        } else {
            Valve::Keep
        }
    }

    /// The messages, or as many of an ordinary size as would take the same share of the bytes.
    fn filled(&self, state: &Contents) -> usize {
        state.messages.max(state.bytes.saturating_mul(self.room) / self.bytes)
    }

    pub(super) fn pressure(&self) -> Pressure {
        Pressure::of(self.filled(&self.lock()), self.room)
    }

    pub(super) fn show(&self, gauge: &mut PressureGauge) {
        let filled = self.filled(&self.lock());
        gauge.show(filled, self.room);
    }

    pub(super) async fn valve_may_have_changed(&self) {
        self.valve.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // Nothing in here panics half-way, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Offset, Receipt};

    const MIB: usize = 1 << 20;

    fn message(id: u64) -> Message {
        Message {
            offset: Offset::new(1, id),
            receipt: Receipt { flow: 1, id },
            topic: String::new(),
            payload: bytes::Bytes::new(),
            redelivered: false,
            properties: Vec::new(),
        }
    }

    fn down(reason: &str) -> SourceEvent {
        SourceEvent::Down { reason: reason.to_owned() }
    }

    async fn receive(inbox: &Inbox, limit: usize) -> Vec<SourceEvent> {
        let mut events = Vec::new();
        inbox.recv_many(&mut events, limit).await.unwrap();
        events
    }

    #[tokio::test]
    async fn a_flapping_connection_leaves_only_its_last_state() {
        let inbox = Inbox::new(10, 1, MIB);
        for round in 0..1_000 {
            inbox.tell(down(&round.to_string()));
            inbox.tell(SourceEvent::Up);
        }
        inbox.push(message(1));
        inbox.tell(down("last"));
        let events = receive(&inbox, 100).await;
        assert_eq!(events.len(), 3);
        assert!(matches!(events[0], SourceEvent::Up));
        assert!(matches!(&events[2], SourceEvent::Down { reason } if reason == "last"));
    }

    #[tokio::test]
    async fn the_valve_closes_at_half_and_opens_at_a_quarter_of_the_limit() {
        let inbox = Inbox::new(8, 1, MIB);
        for id in 1..=3 {
            inbox.push(message(id));
        }
        assert_eq!(inbox.valve(), Valve::Keep);
        inbox.push(message(4));
        assert_eq!((inbox.valve(), inbox.pressure()), (Valve::Close, Pressure::Stopped));
        inbox.valve_may_have_changed().await;
        receive(&inbox, 1).await;
        assert_eq!((inbox.valve(), inbox.pressure()), (Valve::Keep, Pressure::Warning));
        receive(&inbox, 1).await;
        inbox.valve_may_have_changed().await;
        assert_eq!(inbox.valve(), Valve::Open);
    }

    #[tokio::test]
    async fn large_messages_fill_it_by_their_bytes() {
        let inbox = Inbox::new(1_000, 1, 100);
        let large = |id| Message { payload: bytes::Bytes::from_static(&[0; 40]), ..message(id) };
        inbox.push(large(1));
        assert_eq!((inbox.valve(), inbox.pressure()), (Valve::Open, Pressure::Normal));
        inbox.push(large(2));
        assert_eq!((inbox.valve(), inbox.pressure()), (Valve::Keep, Pressure::Warning));
        inbox.push(large(3));
        assert_eq!((inbox.valve(), inbox.pressure()), (Valve::Close, Pressure::Stopped));
        inbox.valve_may_have_changed().await;
        receive(&inbox, 2).await;
        inbox.valve_may_have_changed().await;
        assert_eq!((inbox.valve(), inbox.pressure()), (Valve::Open, Pressure::Normal));
        inbox.push(large(4));
        inbox.push(large(5));
        inbox.discard_messages();
        assert_eq!(inbox.pressure(), Pressure::Normal);
    }

    #[tokio::test]
    async fn large_messages_are_taken_one_by_one() {
        let inbox = Inbox::new(1_000, 1, 100);
        for (id, bytes) in [(1, 60), (2, 60), (3, 200), (4, 200)] {
            let payload = bytes::Bytes::from(vec![0; bytes]);
            inbox.push(Message { payload, ..message(id) });
        }
        let mut counts = Vec::new();
        for _ in 0..3 {
            counts.push(receive(&inbox, 10).await.len());
        }
        assert_eq!(counts, [2, 1, 1]);
        assert_eq!(inbox.pressure(), Pressure::Normal);
    }

    #[tokio::test]
    async fn an_overflow_ends_the_source_instead_of_dropping_or_waiting() {
        let inbox = Inbox::new(2, 1, MIB);
        for id in 1..=6 {
            inbox.push(message(id));
        }
        let error = inbox.recv_many(&mut Vec::new(), 1).await.unwrap_err();
        assert!(matches!(error, SolaceError::Overflow { capacity: 5 }), "{error}");
        assert_eq!(inbox.recv_many(&mut Vec::new(), 1).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_new_flow_takes_back_messages_but_not_events() {
        let inbox = Inbox::new(4, 1, MIB);
        inbox.push(message(1));
        inbox.tell(down("queue shut down"));
        inbox.discard_messages();
        let events = receive(&inbox, 10).await;
        assert!(matches!(events.as_slice(), [SourceEvent::Down { .. }]), "{events:?}");
    }
}
