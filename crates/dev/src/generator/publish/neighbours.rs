//! Messages to other queues of the same broker, at the same time: they make gaps in the ids of ours.

use chrono::Utc;
use tidemark_solace::{Outgoing, PublishError, Publisher, Settled};

/// What a queue of neighbours subscribes to is below this.
const TOPIC: &str = "neighbours/orders";

/// Publishes over a session of its own, so many messages per event of ours.
pub(super) struct Neighbours {
    publisher: Publisher,
    per_event: f64,
    owed: f64,
    sent: u64,
}

impl Neighbours {
    pub(super) fn new(publisher: Publisher, per_event: f64) -> Self {
        Self { publisher, per_event, owed: 0.0, sent: 0 }
    }

    /// To be called after each event of ours. Blocks as [`Publisher::send`] does.
    pub(super) fn follow(&mut self) -> Result<(), PublishError> {
        self.owed += self.per_event;
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            let payload = format!("{{\"neighbour\":{}}}", self.sent);
            let message = Outgoing {
                topic: TOPIC,
                payload: payload.as_bytes(),
                properties: &[],
                id: &format!("neighbour-{}", self.sent),
                sent_at_ms: Utc::now().timestamp_millis(),
            };
            self.publisher.send(self.sent, &message)?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Waits for the broker's answers. Cancel-safe.
    pub(super) async fn settle(&self) -> Settled {
        self.publisher.wait_until_settled(self.sent).await;
        self.publisher.settled()
    }
}
