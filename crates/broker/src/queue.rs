//! One queue: which messages wait, who may take them, who has them.
//!
//! A queue knows ids, never contents. A message is in exactly one place: waiting in a lane, or
//! delivered and held by a consumer flow until it is settled or returned.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::partition::{self, FlowKey};

pub(crate) const DEFAULT_DEAD_MESSAGE_QUEUE: &str = "#DEAD_MSG_QUEUE";

/// Who receives when several consumers are bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Only the first one; the others stand by.
    #[default]
    Exclusive,
    NonExclusive,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueSettings {
    pub(crate) name: String,
    pub(crate) access: Access,
    pub(crate) partitions: u32,
    pub(crate) quota_mb: Option<u32>,
    pub(crate) max_redelivery: Option<u32>,
    pub(crate) dead_message_queue: Option<String>,
}

impl QueueSettings {
    pub(crate) fn dead_message_queue(&self) -> &str {
        self.dead_message_queue.as_deref().unwrap_or(DEFAULT_DEAD_MESSAGE_QUEUE)
    }
}

/// A message of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) lane: u16,
    /// It was in the queue when the broker started, so an earlier run may have delivered it.
    pub(crate) is_recovered: bool,
    /// Including the one under way.
    pub(crate) deliveries: u32,
}

impl Entry {
    /// How often it had been delivered before the delivery under way, if it may have been.
    pub(crate) fn redelivered(&self) -> Option<u32> {
        match (self.deliveries.saturating_sub(1), self.is_recovered) {
            (0, false) => None,
            (0, true) => Some(1),
            (count, _) => Some(count),
        }
    }
}

/// An order of messages: the whole queue, or one partition of it.
#[derive(Debug, Default)]
struct Lane {
    /// Never delivered, ids ascending.
    fresh: VecDeque<Entry>,
    /// Came back from a consumer.
    returned: BTreeMap<u64, Entry>,
    /// Partition only: who receives now, and who is to receive once nothing is in flight.
    holder: Option<FlowKey>,
    assigned: Option<FlowKey>,
    in_flight: usize,
}

impl Lane {
    fn head(&self) -> Option<u64> {
        let returned = self.returned.first_key_value().map(|(id, _)| *id);
        let fresh = self.fresh.front().map(|entry| entry.id);
        match (returned, fresh) {
            (Some(returned), Some(fresh)) => Some(returned.min(fresh)),
            (one, other) => one.or(other),
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        let head = self.head()?;
        self.returned.remove(&head).or_else(|| self.fresh.pop_front())
    }

    /// A partition that is leaving its holder gives it nothing more.
    fn is_held_by(&self, flow: FlowKey) -> bool {
        self.holder == Some(flow) && self.assigned == Some(flow)
    }

    /// Passes the partition on, but not while its old holder could still be working on a key.
    fn hand_over(&mut self) {
        if self.in_flight == 0 {
            self.holder = self.assigned;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) settings: QueueSettings,
    /// The connection whose end is the end of this temporary queue.
    pub(crate) owner: Option<u64>,
    pub(crate) used_bytes: u64,
    lanes: Vec<Lane>,
    /// In the order of binding; the first one is the active one of an exclusive queue.
    flows: Vec<FlowKey>,
    /// Flows that only look.
    browsers: Vec<FlowKey>,
}

impl Queue {
    pub(crate) fn new(settings: QueueSettings, owner: Option<u64>) -> Self {
        let lanes = settings.partitions.clamp(1, u32::from(u16::MAX)) as usize;
        let lanes = (0..lanes).map(|_| Lane::default()).collect();
        Self { settings, owner, used_bytes: 0, lanes, flows: Vec::new(), browsers: Vec::new() }
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        self.settings.access == Access::Exclusive
    }

    fn is_partitioned(&self) -> bool {
        self.settings.partitions > 0
    }

    pub(crate) fn flows(&self) -> &[FlowKey] {
        &self.flows
    }

    /// All flows that may have something to send.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &FlowKey> {
        self.flows.iter().chain(&self.browsers)
    }

    pub(crate) fn add_browser(&mut self, flow: FlowKey) {
        self.browsers.push(flow);
    }

    /// The first message above `after` that waits, as it would be delivered; it stays where it is.
    pub(crate) fn browse(&self, after: u64) -> Option<Entry> {
        let of_lane = |lane: &Lane| {
            let returned = lane.returned.range(after + 1..).next().map(|(_, entry)| *entry);
            let at = lane.fresh.partition_point(|entry| entry.id <= after);
            returned.into_iter().chain(lane.fresh.get(at).copied()).min_by_key(|entry| entry.id)
        };
        let next = self.lanes.iter().filter_map(of_lane).min_by_key(|entry| entry.id)?;
        Some(Entry { deliveries: next.deliveries + 1, ..next })
    }

    pub(crate) fn depth(&self) -> usize {
        self.lanes.iter().map(|lane| lane.fresh.len() + lane.returned.len()).sum()
    }

    /// Messages that consumers hold and have not settled.
    pub(crate) fn held(&self) -> usize {
        self.lanes.iter().map(|lane| lane.in_flight).sum()
    }

    /// Adds a message at the end. Ids come in ascending order.
    pub(crate) fn push(&mut self, id: u64, hash: u32, is_recovered: bool) {
        let lane = partition::of_hash(hash, self.lanes.len());
        let entry = Entry { id, lane: lane as u16, is_recovered, deliveries: 0 };
        self.lanes[lane].fresh.push_back(entry);
    }

    /// Takes the next message for `flow`, if it may have one.
    pub(crate) fn take(&mut self, flow: FlowKey) -> Option<Entry> {
        let lane = if self.is_partitioned() {
            let held = self.lanes.iter_mut().filter(|lane| lane.is_held_by(flow));
            held.filter(|lane| lane.head().is_some()).min_by_key(|lane| lane.head())?
        } else {
            if self.is_exclusive() && self.flows.first() != Some(&flow) {
                return None;
            }
            &mut self.lanes[0]
        };
        let mut entry = lane.pop()?;
        lane.in_flight += 1;
        entry.deliveries += 1;
        Some(entry)
    }

    /// The consumer is done with a message: it leaves the queue.
    pub(crate) fn settle(&mut self, entry: &Entry) {
        self.land(entry);
    }

    /// The consumer gives a message back: it is next again.
    pub(crate) fn give_back(&mut self, entry: Entry) {
        self.lanes[usize::from(entry.lane)].returned.insert(entry.id, entry);
        self.land(&entry);
    }

    fn land(&mut self, entry: &Entry) {
        let lane = &mut self.lanes[usize::from(entry.lane)];
        lane.in_flight = lane.in_flight.saturating_sub(1);
        if lane.assigned != lane.holder {
            lane.hand_over();
        }
    }

    /// True if the entry has been redelivered as often as the queue allows.
    pub(crate) fn is_worn_out(&self, entry: &Entry) -> bool {
        self.settings.max_redelivery.is_some_and(|max| entry.deliveries > max)
    }

    pub(crate) fn bind(&mut self, flow: FlowKey) {
        self.flows.push(flow);
        self.assign_partitions();
    }

    /// Removes a flow whose messages have been given back.
    pub(crate) fn unbind(&mut self, flow: FlowKey) {
        self.flows.retain(|bound| *bound != flow);
        self.browsers.retain(|bound| *bound != flow);
        self.assign_partitions();
    }

    fn assign_partitions(&mut self) {
        if !self.is_partitioned() {
            return;
        }
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            lane.assigned = partition::owner(number, &self.flows);
            lane.hand_over();
        }
    }

    /// Is this flow the one that receives (of an exclusive queue), or one of those?
    pub(crate) fn is_active(&self, flow: FlowKey) -> bool {
        !self.is_exclusive() || self.flows.first() == Some(&flow)
    }

    /// Ids of everything that waits, for a queue that is going away.
    pub(crate) fn drain_waiting(&mut self) -> Vec<u64> {
        let mut ids = Vec::new();
        for lane in &mut self.lanes {
            ids.extend(lane.fresh.drain(..).map(|entry| entry.id));
            ids.extend(std::mem::take(&mut lane.returned).into_keys());
        }
        ids
    }
}

#[cfg(test)]
mod tests;
