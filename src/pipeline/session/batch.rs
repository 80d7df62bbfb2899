//! Collecting a micro-batch: until it is full, old enough, or the commit before it is done.

use std::collections::VecDeque;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::BatchLimits;
use crate::model::Message;
use crate::pipeline::session::committer::InFlight;
use crate::source::{Pressure, Source, SourceError, SourceEvent};
use crate::telemetry::Condition;
use crate::telemetry::Health;

/// What collecting ended with.
#[derive(Debug)]
pub(crate) enum Collected {
    /// At least one message.
    Batch(Vec<Message>),
    /// The source's connection changed; there may be messages from before it.
    Event(SourceEvent),
    /// The source has ended, and all of its messages were handed out.
    Ended,
    /// Shutdown: messages of the open batch are left to the broker.
    Cancelled,
}

/// Takes messages from a source and closes batches.
pub(crate) struct Collector<S> {
    source: S,
    limits: BatchLimits,
    events: Vec<SourceEvent>,
    messages: Vec<Message>,
    bytes: usize,
    /// How many messages the open batch may have.
    limit: usize,
    /// When the open batch is old enough.
    deadline: Option<Instant>,
    /// Bytes of the batches that may not be committed yet, the oldest first.
    uncommitted: VecDeque<usize>,
}

impl<S: Source> Collector<S> {
    pub(crate) fn new(source: S, limits: BatchLimits) -> Self {
        Self {
            source,
            limits,
            events: Vec::new(),
            messages: Vec::new(),
            bytes: 0,
            limit: limits.messages,
            deadline: None,
            uncommitted: VecDeque::new(),
        }
    }

    /// The source, to be closed.
    pub(crate) fn into_source(self) -> S {
        self.source
    }

    /// Waits for the queue; messages that come stay for the first batch. `false`: the source ended.
    pub(crate) async fn wait_until_up(&mut self, health: &Health) -> Result<bool, SourceError> {
        loop {
            let mut received = Vec::new();
            if self.source.recv_many(&mut received, self.limits.messages).await? == 0 {
                return Ok(false);
            }
            for event in &received {
                report(event, health);
            }
            let last_change = received.iter().rposition(|e| !matches!(e, SourceEvent::Message(_)));
            // What came before a loss of the flow comes again.
            let waits = last_change.is_some_and(|at| !matches!(received[at], SourceEvent::Up));
            if !waits {
                self.events
                    .extend(received.into_iter().filter(|e| matches!(e, SourceEvent::Message(_))));
                return Ok(true);
            }
        }
    }

    /// The next batch or event. Events end a batch, because a new flow has new receipts. Cancel-safe.
    pub(crate) async fn next(
        &mut self,
        in_flight: &mut InFlight,
        shutdown: &CancellationToken,
    ) -> Result<Collected, SourceError> {
        let waits_for_commit = !in_flight.is_empty();
        loop {
            if let Some(collected) = self.take_events() {
                return Ok(collected);
            }
            let is_due = waits_for_commit && in_flight.is_empty();
            if is_due && !self.messages.is_empty() {
                return Ok(self.close());
            }
            if !self.messages.is_empty() && self.deadline.is_none() {
                self.deadline = Some(Instant::now() + self.limits.age);
            }
            let deadline = self.deadline;
            // Seen before messages are taken, which lowers the pressure.
            if self.source.pressure() >= Pressure::Warning {
                self.limit = self.limits.pressed_messages;
            }
            let room = self.limit - self.messages.len();
            let has_memory = self.has_memory(in_flight);
            tokio::select! {
                biased;
                // Shutdown goes before everything: the batch is not acknowledged and comes again.
                () = shutdown.cancelled() => return Ok(Collected::Cancelled),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Ok(self.close());
                }
                () = in_flight.changed(), if waits_for_commit => {}
                received = self.source.recv_many(&mut self.events, room), if has_memory => {
                    if received? == 0 {
                        let is_drained = self.messages.is_empty();
                        return Ok(if is_drained { Collected::Ended } else { self.close() });
                    }
                }
            }
        }
    }

    /// Moves received messages to the open batch, until it is full or an event of another kind comes.
    fn take_events(&mut self) -> Option<Collected> {
        let mut events = std::mem::take(&mut self.events).into_iter();
        while !self.is_full() {
            match events.next() {
                None => return None,
                Some(SourceEvent::Message(message)) => {
                    self.bytes += message.payload.len();
                    self.messages.push(message);
                }
                Some(other) if self.messages.is_empty() => {
                    self.events = events.collect();
                    return Some(Collected::Event(other));
                }
                Some(other) => {
                    self.events = std::iter::once(other).chain(events).collect();
                    return Some(self.close());
                }
            }
        }
        self.events = events.collect();
        Some(self.close())
    }

    /// Whether there is memory for more messages. A batch has more bytes than its limit if a message is large: then nothing
    /// else is taken until it is committed.
    fn has_memory(&mut self, in_flight: &InFlight) -> bool {
        while self.uncommitted.len() > in_flight.count() {
            self.uncommitted.pop_front();
        }
        self.uncommitted.iter().sum::<usize>() <= 2 * self.limits.bytes
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= self.limit || self.bytes >= self.limits.bytes
    }

    fn close(&mut self) -> Collected {
        self.uncommitted.push_back(self.bytes);
        (self.bytes, self.deadline, self.limit) = (0, None, self.limits.messages);
        Collected::Batch(std::mem::take(&mut self.messages))
    }
}

/// Tells operators and the status page how the connection is.
pub(crate) fn report(event: &SourceEvent, health: &Health) {
    match event {
        SourceEvent::Message(_) => {}
        SourceEvent::Up => {
            info!("the queue is bound");
            health.clear(Condition::Source);
        }
        SourceEvent::Standby => {
            info!("another consumer is reading the queue: standing by");
            health.block(Condition::Source, "standing by: another consumer is reading the queue");
        }
        SourceEvent::Down { reason } => {
            warn!(reason, "the queue is not bound; reconnecting");
            health.block(Condition::Source, reason.as_str());
        }
    }
}

#[cfg(test)]
mod tests;
