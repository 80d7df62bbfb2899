//! Test support: what every queue-like source promises, as functions over the trait.
//!
//! The in-memory queue and the real broker run the same functions, so the fake stays honest.

use std::future::Future;

use super::{Acknowledge, Source, SourceEvent};
use crate::model::{Message, Offset};

/// A queue that the functions may fill and consume; each function wants an empty one.
pub trait TestQueue {
    type Source: Source;

    /// Adds messages at the end and returns when they are stored.
    fn publish(&self, payloads: &[String]) -> impl Future<Output = ()>;
    /// A new consumer.
    fn bind(&self) -> impl Future<Output = Self::Source>;
    /// Ends a consumer in good order.
    fn release(&self, source: Self::Source) -> impl Future<Output = ()>;
    /// The largest number of messages that a consumer gets without acknowledging.
    fn max_unacked(&self) -> usize;
}

/// Payloads `first`, `first + 1`, ... as text.
pub fn numbered(first: usize, count: usize) -> Vec<String> {
    (first..first + count).map(|number| number.to_string()).collect()
}

/// A source that stands still fails with what it gave instead of hanging the run.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The next `count` messages, whatever events come between.
///
/// # Panics
/// If the source ends or fails first.
pub async fn take<S: Source>(source: &mut S, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut events = Vec::new();
    while messages.len() < count {
        let wanted = count - messages.len();
        let receiving = tokio::time::timeout(PATIENCE, source.recv_many(&mut events, wanted)).await;
        let so_far: Vec<String> = payloads(&messages);
        assert!(receiving.is_ok(), "nothing came for {PATIENCE:?}; wanted {count}, got {so_far:?}");
        let received = receiving.expect("asserted").expect("the source works");
        assert_ne!(received, 0, "the source ended after {} messages", messages.len());
        messages.extend(events.drain(..).filter_map(message));
    }
    messages
}

fn message(event: SourceEvent) -> Option<Message> {
    match event {
        SourceEvent::Message(message) => Some(message),
        SourceEvent::Up | SourceEvent::Standby | SourceEvent::Down { .. } => None,
    }
}

fn payloads(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect()
}

fn offsets(messages: &[Message]) -> Vec<Offset> {
    messages.iter().map(|message| message.offset).collect()
}

async fn ack<S: Source>(source: &S, messages: &[Message]) {
    source.acknowledger().ack(messages.iter().map(|message| message.receipt).collect()).await;
}

/// # Panics
/// If the source does not keep the promise.
pub async fn messages_come_in_order_with_rising_offsets<Q: TestQueue>(queue: &Q) {
    queue.publish(&numbered(0, 100)).await;
    let mut source = queue.bind().await;
    let messages = take(&mut source, 100).await;
    assert_eq!(payloads(&messages), numbered(0, 100));
    assert!(offsets(&messages).is_sorted_by(|a, b| a < b), "{:?}", offsets(&messages));
    assert!(messages.iter().all(|message| !message.redelivered));
    queue.release(source).await;
}

/// # Panics
/// If the source does not keep the promise.
pub async fn unacknowledged_messages_come_again_under_the_same_offsets<Q: TestQueue>(queue: &Q) {
    queue.publish(&numbered(0, 10)).await;
    let mut first = queue.bind().await;
    let delivered = take(&mut first, 10).await;
    let odd: Vec<Message> = delivered.iter().skip(1).step_by(2).cloned().collect();
    ack(&first, &odd).await;
    queue.release(first).await;

    let mut second = queue.bind().await;
    let again = take(&mut second, 5).await;
    assert_eq!(payloads(&again), ["0", "2", "4", "6", "8"]);
    let even: Vec<Message> = delivered.iter().step_by(2).cloned().collect();
    assert_eq!(offsets(&again), offsets(&even));
    assert!(again.iter().all(|message| message.redelivered));
    queue.release(second).await;
}

/// # Panics
/// If the source does not keep the promise.
pub async fn acknowledged_messages_do_not_come_again<Q: TestQueue>(queue: &Q) {
    queue.publish(&numbered(0, 10)).await;
    let mut first = queue.bind().await;
    let delivered = take(&mut first, 10).await;
    ack(&first, &delivered).await;
    ack(&first, &delivered).await;
    queue.release(first).await;
    queue.publish(&numbered(10, 1)).await;
    let mut second = queue.bind().await;
    assert_eq!(payloads(&take(&mut second, 1).await), ["10"]);
    queue.release(second).await;
}

/// # Panics
/// If the source does not keep the promise.
pub async fn foreign_receipts_acknowledge_nothing<Q: TestQueue>(queue: &Q) {
    queue.publish(&numbered(0, 3)).await;
    let mut first = queue.bind().await;
    let mut strange = take(&mut first, 3).await;
    for message in &mut strange {
        message.receipt.flow += 1;
    }
    ack(&first, &strange).await;
    queue.release(first).await;
    let mut second = queue.bind().await;
    assert_eq!(payloads(&take(&mut second, 3).await), numbered(0, 3));
    queue.release(second).await;
}

/// # Panics
/// If the source does not keep the promise.
pub async fn a_dropped_receive_loses_nothing<Q: TestQueue>(queue: &Q) {
    let mut source = queue.bind().await;
    let mut events = Vec::new();
    let mut received = Vec::new();
    for round in 0..20 {
        let payload = numbered(round, 1);
        let mut publishing = std::pin::pin!(queue.publish(&payload));
        tokio::select! {
            biased;
            result = source.recv_many(&mut events, 10) => {
                result.expect("the source works");
                publishing.await;
            }
            // Ends while the other waits, which drops it.
            () = publishing.as_mut() => {}
        }
        received.extend(events.drain(..).filter_map(message));
    }
    let missing = 20 - received.len();
    received.extend(take(&mut source, missing).await);
    queue.publish(&numbered(20, 1)).await;
    received.extend(take(&mut source, 1).await);
    assert_eq!(payloads(&received).last().map(String::as_str), Some("20"));
    assert!(offsets(&received).is_sorted_by(|a, b| a < b), "{:?}", offsets(&received));
    queue.release(source).await;
}

/// # Panics
/// If the source does not keep the promise.
pub async fn acknowledging_makes_room_for_more<Q: TestQueue>(queue: &Q) {
    let limit = queue.max_unacked();
    queue.publish(&numbered(0, 3 * limit)).await;
    let mut source = queue.bind().await;
    for round in 0..3 {
        let messages = take(&mut source, limit).await;
        assert_eq!(payloads(&messages), numbered(round * limit, limit));
        ack(&source, &messages).await;
    }
    queue.release(source).await;
}
