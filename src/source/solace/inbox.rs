use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::changelog::Message;
use crate::source::{Pressure, PressureGauge, SourceError, SourceEvent};

/// What the library's callbacks have delivered and the consumer has not received yet.
///
/// Bounded. Not a Tokio channel, because connection events must find room when messages fill it,
/// a new flow takes back what the old one delivered, and a batch is taken under one lock.
/// The lock is held for a push or the move of a batch, never across a wait.
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    /// Told when the number of messages comes to another step of the ladder, or falls to `low`.
    valve: Notify,
    capacity: usize,
    /// For so many messages there is room before the flow is stopped.
    room: usize,
    low: usize,
}

struct State {
    events: VecDeque<SourceEvent>,
    messages: usize,
    failure: Option<SourceError>,
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
    /// the flow is stopped when that is about full, and started again at half of it.
    pub(super) fn new(max_unacked: usize, window: usize) -> Self {
        let state = State { events: VecDeque::new(), messages: 0, failure: None, has_ended: false };
        Self {
            state: Mutex::new(state),
            arrived: Notify::new(),
            valve: Notify::new(),
            capacity: 2 * max_unacked + window,
            room: (max_unacked / 2).max(1),
            low: max_unacked / 4,
        }
    }

    /// Called on the library's thread.
    pub(super) fn push(&self, message: Message) {
        let mut state = self.lock();
        if state.messages >= self.capacity {
            drop(state);
            return self.fail(SourceError::Overflow { capacity: self.capacity });
        }
        let was_empty = state.events.is_empty();
        state.events.push_back(SourceEvent::Message(message));
        state.messages += 1;
        let before = Pressure::of(state.messages - 1, self.room);
        let rises = before != Pressure::of(state.messages, self.room);
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
    pub(super) fn fail(&self, error: SourceError) {
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
        state.messages = 0;
    }

    /// Cancel-safe: nothing is taken before it returns.
    pub(super) async fn recv_many(
        &self,
        buffer: &mut Vec<SourceEvent>,
        limit: usize,
    ) -> Result<usize, SourceError> {
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
    ) -> Option<Result<usize, SourceError>> {
        let mut state = self.lock();
        if state.has_ended {
            return Some(state.failure.take().map_or(Ok(0), Err));
        }
        let count = state.events.len().min(limit);
        if count == 0 {
            return None;
        }
        let before = state.messages;
        let start = buffer.len();
        buffer.extend(state.events.drain(..count));
        let taken = buffer[start..].iter().filter(|e| matches!(e, SourceEvent::Message(_))).count();
        state.messages -= taken;
        let has_fallen_low = before > self.low && state.messages <= self.low;
        let falls = Pressure::of(before, self.room) != Pressure::of(state.messages, self.room);
        drop(state);
        if has_fallen_low || falls {
            self.valve.notify_one();
        }
        Some(Ok(count))
    }

    pub(super) fn valve(&self) -> Valve {
        let messages = self.lock().messages;
        if Pressure::of(messages, self.room) == Pressure::Stopped {
            Valve::Close
        } else if messages <= self.low {
            Valve::Open
        } else {
            Valve::Keep
        }
    }

    pub(super) fn pressure(&self) -> Pressure {
        Pressure::of(self.lock().messages, self.room)
    }

    pub(super) fn show(&self, gauge: &mut PressureGauge) {
        gauge.show(self.lock().messages, self.room);
    }

    pub(super) async fn valve_may_have_changed(&self) {
        self.valve.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changelog::{Offset, Receipt};

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
        let inbox = Inbox::new(10, 1);
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
        let inbox = Inbox::new(8, 1);
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
    async fn an_overflow_ends_the_source_instead_of_dropping_or_waiting() {
        let inbox = Inbox::new(2, 1);
        for id in 1..=6 {
            inbox.push(message(id));
        }
        let error = inbox.recv_many(&mut Vec::new(), 1).await.unwrap_err();
        assert!(matches!(error, SourceError::Overflow { capacity: 5 }), "{error}");
        assert_eq!(inbox.recv_many(&mut Vec::new(), 1).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_new_flow_takes_back_messages_but_not_events() {
        let inbox = Inbox::new(4, 1);
        inbox.push(message(1));
        inbox.tell(down("queue shut down"));
        inbox.discard_messages();
        let events = receive(&inbox, 10).await;
        assert!(matches!(events.as_slice(), [SourceEvent::Down { .. }]), "{events:?}");
    }
}
