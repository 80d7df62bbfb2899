//! What the spool knows besides messages: queues, publisher flows and the counters.
//!
//! Every segment starts with the whole catalog, so older segments can go without losing any of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::queue::QueueSettings;

/// Temporary queues have ids of their own kind: recovery forgets them by their id alone.
pub(crate) const TEMPORARY_BIT: u32 = 1 << 31;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Catalog {
    /// First half of every replication group message id; drawn once for the life of the spool.
    pub(crate) suid: u64,
    pub(crate) next_id: u64,
    pub(crate) next_queue: u32,
    pub(crate) queues: BTreeMap<u32, QueueRecord>,
    /// Publisher flow name -> id of its last message that was taken over.
    pub(crate) flows: HashMap<String, u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QueueRecord {
    pub(crate) settings: QueueSettings,
    pub(crate) topics: BTreeSet<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Change {
    QueueCreated { queue: u32, settings: QueueSettings },
    QueueAltered { queue: u32, settings: QueueSettings },
    QueueDeleted { queue: u32 },
    Subscribed { queue: u32, topic: String },
    Unsubscribed { queue: u32, topic: String },
    FlowClosed { flow: String },
}

impl Catalog {
    pub(super) fn new() -> Self {
        Self {
            // Zero would read as "no id" in the replication group message id.
            suid: rand::random::<u64>().max(1),
            next_id: 1,
            next_queue: 1,
            queues: BTreeMap::new(),
            flows: HashMap::new(),
        }
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::QueueCreated { queue, settings } => {
                self.next_queue = self.next_queue.max(queue + 1);
                self.queues.insert(queue, QueueRecord { settings, topics: BTreeSet::new() });
            }
            Change::QueueAltered { queue, settings } => {
                if let Some(record) = self.queues.get_mut(&queue) {
                    record.settings = settings;
                }
            }
            Change::QueueDeleted { queue } => {
                self.queues.remove(&queue);
            }
            Change::Subscribed { queue, topic } => {
                if let Some(record) = self.queues.get_mut(&queue) {
                    record.topics.insert(topic);
                }
            }
            Change::Unsubscribed { queue, topic } => {
                if let Some(record) = self.queues.get_mut(&queue) {
                    record.topics.remove(&topic);
                }
            }
            Change::FlowClosed { flow } => {
                self.flows.remove(&flow);
            }
        }
    }

    pub(super) fn set_flow(&mut self, flow: &str, message_id: u64) {
        match self.flows.get_mut(flow) {
            Some(last) => *last = message_id.max(*last),
            None => {
                self.flows.insert(flow.to_owned(), message_id);
            }
        }
    }
}
