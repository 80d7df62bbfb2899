//! Everything the broker knows, behind one lock: connections, queues, subscriptions, the spool.
//!
//! ```text
//! session ──publish──> spool buffer ──writer thread: write, sync──> commit ──> queues, acks
//! session <──take_output── outbox, publish acks, deliveries of its flows
//! ```
//! Sessions pull: a connection gets deliveries when its socket has taken the previous ones, so a
//! slow client costs one buffer and no more. Nothing here blocks or waits; the lock is held for
//! one chunk of frames at a time.

mod commit;
mod completion;
mod consume;
mod output;
mod provision;
mod publish;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::{info, warn};

use super::codec::frame::Response;
use super::config::{Config, QueueConfig};
use super::flow::ConsumerFlow;
use super::queue::{Queue, QueueSettings};
use super::spool::catalog::{Change, TEMPORARY_BIT};
use super::spool::{Recovered, Spool};
use super::subscription::{self, Subscriptions, Target};
use super::{BrokerError, SpoolError};
use completion::Completion;
pub(crate) use completion::OpenPublisher;
pub(crate) use output::{Output, PlannedDelivery};

/// Bytes that may wait for the disk before publishers are no longer read.
const MAX_PENDING_BYTES: usize = 16 << 20;
/// Bytes of answers that may wait for a client before it is no longer read.
const MAX_OUTBOX_BYTES: usize = 1 << 20;
/// Bytes of direct messages that may wait for a client; further ones are discarded.
const MAX_DIRECT_BYTES: usize = 4 << 20;

/// The lock around [`Core`] and what wakes the two kinds of waiters.
pub(crate) struct Hub {
    core: Mutex<Core>,
    /// The writer thread waits here for something to write.
    pub(crate) writer: Condvar,
    /// Sessions wait here for the disk to catch up.
    pub(crate) space: Notify,
}

impl Hub {
    pub(crate) fn new(core: Core) -> Self {
        Self { core: Mutex::new(core), writer: Condvar::new(), space: Notify::new() }
    }

    /// A panic under the lock is a bug, but one connection's bug must not stop the others.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the writer thread start if there is work for it.
    pub(crate) fn unlock(&self, core: MutexGuard<'_, Core>) {
        let has_work = core.has_work();
        drop(core);
        if has_work {
            self.writer.notify_one();
        }
    }
}

/// What a session tells about its client at login.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) provision: bool,
    pub(crate) consume: bool,
    pub(crate) publish: bool,
}

struct Connection {
    client: Client,
    /// Wakes the session when there is output, or when the connection has been taken away.
    notify: Arc<Notify>,
    outbox: Vec<u8>,
    direct: Vec<u8>,
    publish_events: VecDeque<PublishEvent>,
    flows: BTreeMap<u32, ConsumerFlow>,
    publishers: HashMap<u32, OpenFlow>,
    temporary_queues: Vec<u32>,
}

/// A publisher flow as one connection has it open.
#[derive(Debug, Clone)]
struct OpenFlow {
    name: Arc<str>,
    window: u32,
}

/// What a publisher still has to hear, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishEvent {
    Acked { flow: u32, up_to: u64 },
    Refused { flow: u32, message_id: u64, response: Response },
}

/// A publisher flow outlives its connection, so that the client can go on after a reconnect.
#[derive(Debug)]
struct Publisher {
    /// Highest id taken over, perhaps not yet on disk.
    last_taken: u64,
    /// Highest id on disk (or refused): what may be acknowledged.
    last_done: u64,
    /// Connection and flow id it is open on.
    open_on: Option<(u64, u32)>,
    /// For forgetting the longest unused one.
    closed_at: u64,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) stored: u64,
    pub(crate) delivered: u64,
    pub(crate) settled: u64,
    pub(crate) refused: u64,
    pub(crate) unmatched: u64,
    pub(crate) direct_discarded: u64,
}

pub(crate) struct Core {
    spool: Spool,
    queues: HashMap<u32, Queue>,
    queue_names: HashMap<String, u32>,
    subscriptions: Subscriptions,
    connections: HashMap<u64, Connection>,
    client_names: HashMap<String, u64>,
    publishers: HashMap<Arc<str>, Publisher>,
    completions: Vec<Completion>,
    next_connection: u64,
    next_flow: u32,
    next_temporary_queue: u32,
    /// Part of new publisher flow names: they never repeat over restarts.
    flow_name_stem: String,
    default_quota_mb: u32,
    max_unacked: usize,
    max_message_size: usize,
    pub(crate) counters: Counters,
    /// Why the writer thread gave up; the broker stops.
    pub(crate) failure: Option<SpoolError>,
}

impl Core {
    pub(crate) fn new(
        config: &Config,
        spool: Spool,
        recovered: Recovered,
    ) -> Result<Self, BrokerError> {
        let publishers = spool.catalog.flows.iter().map(|(name, last)| {
            let publisher =
                Publisher { last_taken: *last, last_done: *last, open_on: None, closed_at: 0 };
            (Arc::from(name.as_str()), publisher)
        });
        let mut core = Self {
            publishers: publishers.collect(),
            spool,
            queues: HashMap::new(),
            queue_names: HashMap::new(),
            subscriptions: Subscriptions::default(),
            connections: HashMap::new(),
            client_names: HashMap::new(),
            completions: Vec::new(),
            next_connection: 1,
            next_flow: 1,
            next_temporary_queue: TEMPORARY_BIT,
            flow_name_stem: format!("pub-{:012x}", rand::random::<u64>() >> 16),
            default_quota_mb: config.default_queue_quota_mb,
            max_unacked: config.max_unacked_per_flow as usize,
            max_message_size: config.max_message_size,
            counters: Counters::default(),
            failure: None,
        };
        core.restore_queues(recovered);
        for queue in &config.queues {
            core.configure_queue(queue)?;
        }
        Ok(core)
    }

    fn restore_queues(&mut self, mut recovered: Recovered) {
        for (id, record) in self.spool.catalog.queues.clone() {
            let mut queue = Queue::new(record.settings, None);
            for (message, hash, size) in recovered.queues.remove(&id).unwrap_or_default() {
                queue.push(message, hash, true);
                queue.used_bytes += u64::from(size);
            }
            for topic in &record.topics {
                self.subscriptions.add(topic, Target::Queue(id));
            }
            let (name, depth) = (&queue.settings.name, queue.depth());
            info!(queue = %name, messages = depth, "queue restored");
            self.queue_names.insert(name.clone(), id);
            self.queues.insert(id, queue);
        }
    }

    /// Creates a configured queue, or brings the limits and topics of an existing one up to date.
    fn configure_queue(&mut self, config: &QueueConfig) -> Result<(), BrokerError> {
        if let Some(topic) = config.topics.iter().find(|topic| !subscription::is_valid(topic)) {
            let (queue, topic) = (config.name.clone(), topic.clone());
            return Err(BrokerError::BadTopic { queue, topic });
        }
        let wanted = config.settings();
        let id = match self.queue_names.get(&wanted.name) {
            None => self.add_queue(wanted, None),
            Some(&id) => self.alter_queue(id, wanted)?,
        };
        for topic in &config.topics {
            self.subscribe_queue(id, topic);
        }
        Ok(())
    }

    fn alter_queue(&mut self, id: u32, wanted: QueueSettings) -> Result<u32, BrokerError> {
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(id) };
        let have = &queue.settings;
        if (have.access, have.partitions) != (wanted.access, wanted.partitions) {
            return Err(BrokerError::QueueMismatch { queue: wanted.name });
        }
        if *have != wanted {
            queue.settings = wanted.clone();
            self.spool.change(Change::QueueAltered { queue: id, settings: wanted });
        }
        Ok(id)
    }

    /// Takes a client in. An older connection of the same name is a dead one and goes first.
    pub(crate) fn connect(&mut self, client: Client, notify: Arc<Notify>) -> u64 {
        if let Some(&older) = self.client_names.get(&client.name) {
            warn!(client = %client.name, "client logged in again; its old connection is closed");
            self.disconnect(older);
        }
        let id = self.next_connection;
        self.next_connection += 1;
        self.client_names.insert(client.name.clone(), id);
        let connection = Connection {
            client,
            notify,
            outbox: Vec::new(),
            direct: Vec::new(),
            publish_events: VecDeque::new(),
            flows: BTreeMap::new(),
            publishers: HashMap::new(),
            temporary_queues: Vec::new(),
        };
        self.connections.insert(id, connection);
        id
    }

    pub(crate) fn has_client(&self, name: &str) -> bool {
        self.client_names.contains_key(name)
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Removes a connection; what its flows held goes back to the queues. Repeats do nothing.
    pub(crate) fn disconnect(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let flows: Vec<u32> = connection.flows.keys().copied().collect();
        for flow in flows {
            self.release_flow(id, flow);
        }
        let Some(connection) = self.connections.remove(&id) else { return };
        if self.client_names.get(&connection.client.name) == Some(&id) {
            self.client_names.remove(&connection.client.name);
        }
        self.subscriptions.remove_target(Target::Connection(id));
        for open in connection.publishers.values() {
            self.leave_publisher(&open.name, id);
        }
        for queue in connection.temporary_queues {
            self.remove_queue(queue);
        }
        connection.notify.notify_one();
    }

    /// Something waits for the writer thread.
    pub(crate) fn has_work(&self) -> bool {
        self.spool.pending_bytes() > 0
            || !self.completions.is_empty()
            || self.spool.has_dead_segment()
    }

    /// False if the session must stop reading: its client does not take its answers, or the disk
    /// is behind.
    pub(crate) fn may_read(&self, connection: u64) -> bool {
        let is_disk_behind = self.spool.pending_bytes() > MAX_PENDING_BYTES;
        let outbox = self.connections.get(&connection).map_or(0, |known| known.outbox.len());
        !is_disk_behind && outbox <= MAX_OUTBOX_BYTES
    }

    pub(crate) fn is_connected(&self, connection: u64) -> bool {
        self.connections.contains_key(&connection)
    }

    /// Queues an answer for the client.
    pub(crate) fn answer(&mut self, connection: u64, frame: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.outbox.extend_from_slice(frame);
            connection.notify.notify_one();
        }
    }

    /// Queues an answer that must not go out before everything so far is on disk.
    pub(crate) fn answer_when_stored(&mut self, connection: u64, frame: Vec<u8>) {
        self.completions.push(Completion::Answer { connection, frame });
    }

    pub(crate) fn queue_depths(&self) -> impl Iterator<Item = (&str, usize)> {
        self.queues.values().map(|queue| (queue.settings.name.as_str(), queue.depth()))
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values()
    }

    pub(crate) fn queue_named(&self, name: &str) -> Option<&Queue> {
        self.queue_names.get(name).and_then(|id| self.queues.get(id))
    }

    /// MB of stored messages.
    pub(crate) fn quota(&self, queue: &Queue) -> u32 {
        queue.settings.quota_mb.unwrap_or(self.default_quota_mb)
    }

    pub(crate) fn max_unacked(&self) -> usize {
        self.max_unacked
    }

    pub(crate) fn spool_bytes(&self) -> u64 {
        self.spool.total_bytes()
    }

    /// Lets the sessions of a queue's consumers look for deliveries.
    fn wake_consumers(&self, queue: u32) {
        let Some(queue) = self.queues.get(&queue) else { return };
        for flow in queue.listeners() {
            if let Some(connection) = self.connections.get(&flow.connection) {
                connection.notify.notify_one();
            }
        }
    }

    fn client(&self, connection: u64) -> Option<&Client> {
        self.connections.get(&connection).map(|known| &known.client)
    }
}
