//! Taking messages from publishers.

use std::sync::Arc;

use tracing::debug;

use super::completion::{Completion, OpenPublisher};
use super::{Core, MAX_DIRECT_BYTES, OpenFlow, PublishEvent, Publisher};
use crate::codec::assured::{Message, kind, par};
use crate::codec::frame::Response;
use crate::codec::message::{Destination, Publish};
use crate::spool::Spooled;
use crate::spool::catalog::Change;
use crate::spool::record::Origin;
use crate::subscription::Target;

/// Publisher flows without a connection that are remembered for a reconnect.
const MAX_CLOSED_PUBLISHERS: usize = 4096;
const MEGABYTE: u64 = 1 << 20;

const OVER_QUOTA: Response = Response::new(503, "Spool Over Quota");
const TOO_LONG: Response = Response::new(400, "Message Too Long");
const UNKNOWN_QUEUE: Response = Response::new(400, "Queue Not Found");
const DENIED: Response = Response::new(403, "Publish ACL Denied");
const NO_TOPIC: Response = Response::new(400, "Topic Parse Error");

impl Core {
    /// Opens a new flow (empty name) or one that the client had before. The answer says which id
    /// was stored last, so it waits for the disk.
    pub(crate) fn open_publisher(&mut self, connection: u64, open: OpenPublisher) {
        let flow = self.next_flow;
        let name: Arc<str> = if open.name.is_empty() {
            format!("{}-{flow}", self.flow_name_stem).into()
        } else {
            open.name.as_str().into()
        };
        let is_known = open.name.is_empty() || self.publishers.contains_key(&name);
        let Some(known) = self.connections.get_mut(&connection) else { return };
        if !is_known {
            let mut frame = Vec::new();
            Message::new(open.version, kind::OPEN_PUBLISHER).put(
                &mut frame,
                open.tag,
                Some(Response::new(400, "Unknown Flow Name")),
            );
            self.answer(connection, &frame);
            return;
        }
        self.next_flow = self.next_flow.wrapping_add(1).max(1);
        known.publishers.insert(flow, OpenFlow { name: Arc::clone(&name), window: open.window });
        let publisher = self.publishers.entry(Arc::clone(&name)).or_insert(Publisher {
            last_taken: 0,
            last_done: 0,
            open_on: None,
            closed_at: 0,
        });
        // What the client calls acknowledged was so, even if it left no record (dropped messages).
        publisher.last_taken = publisher.last_taken.max(open.last_acked);
        publisher.closed_at = self.next_connection;
        self.completions.push(Completion::Opened { connection, flow, name, open });
    }

    pub(crate) fn close_publisher(&mut self, connection: u64, flow: u32) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let Some(OpenFlow { name, .. }) = known.publishers.remove(&flow) else { return };
        let is_stored = self.publishers.remove(&name).is_some_and(|gone| gone.last_taken > 0);
        if is_stored {
            self.spool.change(Change::FlowClosed { flow: name.to_string() });
        }
    }

    /// The connection is gone; the flow stays for its reconnect if it has a history.
    pub(super) fn leave_publisher(&mut self, name: &Arc<str>, connection: u64) {
        let now = self.next_connection;
        let Some(publisher) = self.publishers.get_mut(name) else { return };
        if publisher.open_on.is_none_or(|(owner, _)| owner != connection) {
            return;
        }
        publisher.open_on = None;
        publisher.closed_at = now;
        if publisher.last_taken == 0 {
            self.publishers.remove(name);
        }
        let closed = || self.publishers.iter().filter(|(_, one)| one.open_on.is_none());
        if closed().count() > MAX_CLOSED_PUBLISHERS {
            let oldest =
                closed().min_by_key(|(_, one)| one.closed_at).map(|(name, _)| Arc::clone(name));
            if let Some(oldest) = oldest {
                self.publishers.remove(&oldest);
                self.spool.change(Change::FlowClosed { flow: oldest.to_string() });
            }
        }
    }

    /// Takes one message over. Every message of a flow gets an acknowledgement or a refusal, in
    /// order, once its fate is on disk.
    pub(crate) fn publish(&mut self, connection: u64, publish: &Publish<'_>, is_oversize: bool) {
        let flow = publish.flow_id.and_then(|flow| {
            let open = self.connections.get(&connection)?.publishers.get(&flow)?;
            Some((Arc::clone(&open.name), publish.message_id.unwrap_or(0)))
        });
        let Some((name, message_id)) = flow else {
            debug!(connection, "message on a publisher flow that is not open; ignored");
            return;
        };
        let Some(publisher) = self.publishers.get_mut(&name) else { return };
        if message_id <= publisher.last_taken {
            // A retransmission: it is stored, or will be with the current batch.
            let up_to = publisher.last_done;
            self.tell_publisher(&name, |flow| PublishEvent::Acked { flow, up_to });
            return;
        }
        publisher.last_taken = message_id;
        let is_allowed = self.client(connection).is_some_and(|client| client.publish);
        let checked = if is_oversize || publish.content().body.len() > self.max_message_size {
            Err(TOO_LONG)
        } else if !is_allowed {
            Err(DENIED)
        } else {
            self.store(publish, Some(Origin { flow: &name, message_id }))
        };
        let completion = match checked {
            Ok(spooled) => Completion::Taken { name, message_id, spooled },
            Err(response) => Completion::Refused { name, message_id, response },
        };
        self.completions.push(completion);
    }

    /// Takes a direct message: nobody hears what became of it.
    pub(crate) fn publish_direct(&mut self, connection: u64, publish: &Publish<'_>) {
        if !self.client(connection).is_some_and(|client| client.publish) {
            return;
        }
        match self.store(publish, None) {
            Ok(Some(spooled)) => self.completions.push(Completion::Spooled { spooled }),
            Ok(None) => {}
            Err(response) => debug!(topic = publish.topic, response.text, "direct message dropped"),
        }
    }

    /// Forwards a message to direct subscribers and spools it for the queues that match. Returns
    /// what the spool made of it, if there were any.
    fn store(
        &mut self,
        publish: &Publish<'_>,
        origin: Option<Origin<'_>>,
    ) -> Result<Option<Spooled>, Response> {
        let mut queues = Vec::new();
        match publish.destination() {
            Destination::Queue(name) => {
                queues.push(*self.queue_names.get(name).ok_or(UNKNOWN_QUEUE)?);
            }
            Destination::Topic("") => return Err(NO_TOPIC),
            Destination::Topic(topic) => {
                for target in self.subscriptions.targets(topic).iter() {
                    match *target {
                        Target::Queue(queue) => queues.push(queue),
                        Target::Connection(connection) => self.forward(connection, publish),
                    }
                }
            }
        }
        if queues.is_empty() {
            self.counters.unmatched += 1;
            return Ok(None);
        }
        let content = publish.content();
        let size = u64::from(content.size());
        if queues.iter().any(|queue| self.is_over_quota(*queue, size)) {
            return Err(OVER_QUOTA);
        }
        let hash = publish.partition_hash();
        let spooled = self.spool.append_message(hash, origin, content, &queues);
        for queue in queues {
            if let Some(queue) = self.queues.get_mut(&queue) {
                queue.used_bytes += size;
            }
        }
        Ok(Some(spooled))
    }

    pub(super) fn is_over_quota(&self, queue: u32, size: u64) -> bool {
        self.queues.get(&queue).is_some_and(|queue| {
            let quota_mb = self.quota(queue);
            queue.used_bytes + size > u64::from(quota_mb) * MEGABYTE
        })
    }

    fn forward(&mut self, connection: u64, publish: &Publish<'_>) {
        let Some(connection) = self.connections.get_mut(&connection) else { return };
        if connection.direct.len() > MAX_DIRECT_BYTES {
            self.counters.direct_discarded += 1;
            return;
        }
        publish.put_direct(&mut connection.direct);
        connection.notify.notify_one();
    }

    /// Appends an event for the publisher if it is connected; acknowledgements are cumulative.
    pub(super) fn tell_publisher(&mut self, name: &str, event: impl FnOnce(u32) -> PublishEvent) {
        let Some(publisher) = self.publishers.get(name) else { return };
        let Some((connection, flow)) = publisher.open_on else { return };
        let Some(connection) = self.connections.get_mut(&connection) else { return };
        let event = event(flow);
        match (connection.publish_events.back_mut(), event) {
            (
                Some(PublishEvent::Acked { flow: last_flow, up_to: last }),
                PublishEvent::Acked { flow, up_to },
            ) if *last_flow == flow => *last = up_to.max(*last),
            _ => connection.publish_events.push_back(event),
        }
        connection.notify.notify_one();
    }
}

impl PublishEvent {
    pub(super) fn flow(&self) -> u32 {
        match self {
            Self::Acked { flow, .. } | Self::Refused { flow, .. } => *flow,
        }
    }

    /// Appends the frame that tells the publisher, whose window is repeated.
    pub(super) fn put(self, out: &mut Vec<u8>, window: u32) {
        let (flow, message_id, response) = match self {
            // Without the 200 the client library applies an older refusal to this one.
            Self::Acked { flow, up_to } => (flow, up_to, Response::OK),
            Self::Refused { flow, message_id, response } => (flow, message_id, response),
        };
        Message::new(3, kind::ACK)
            .u32(par::FLOW_ID, flow)
            .u64(par::LAST_ACKED, message_id)
            .window(window)
            .put(out, None, Some(response));
    }
}
