//! How full the outbox is.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// About how many rows the outbox holds; shared by who fills and who empties it.
///
/// The number may be off by the rows of an epoch or two, until the delivery counts again.
#[derive(Debug, Clone)]
pub struct Backlog {
    limit: usize,
    rows: watch::Sender<usize>,
    added: Arc<Notify>,
}

impl Backlog {
    pub fn new(limit: usize) -> Self {
        Self { limit, rows: watch::Sender::new(0), added: Arc::default() }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn rows(&self) -> usize {
        *self.rows.borrow()
    }

    pub fn is_full(&self) -> bool {
        self.rows() >= self.limit
    }

    /// Returns when it is not full. Cancel-safe.
    pub async fn room(&self) {
        let mut rows = self.rows.subscribe();
        // The sender is `self`, so it is not gone.
        let _ = rows.wait_for(|rows| *rows < self.limit).await;
    }

    /// An epoch with at most so many rows was committed.
    pub fn add(&self, rows: usize) {
        self.rows.send_modify(|held| *held += rows);
        self.added.notify_one();
    }

    /// This number of rows was taken out.
    pub(super) fn remove(&self, rows: usize) {
        self.rows.send_modify(|held| *held = held.saturating_sub(rows));
    }

    pub(super) fn set(&self, rows: usize) {
        self.rows.send_if_modified(|held| std::mem::replace(held, rows) != rows);
    }

    /// Returns when rows were added since the last call. Cancel-safe.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }
}
