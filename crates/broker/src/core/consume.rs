//! Consumer flows: bind, unbind and acknowledgements.

use super::Core;
use super::provision::{DENIED, NO_TOPIC_ENDPOINTS, UNKNOWN_QUEUE, requested_settings};
use crate::codec::CodecError;
use crate::codec::assured::{AckRange, Message, Request, kind, par};
use crate::codec::frame::Response;
use crate::flow::{ConsumerFlow, WireIds};
use crate::partition::FlowKey;
use crate::queue::Queue;
use crate::spool::catalog::TEMPORARY_BIT;

const NON_DURABLE: u8 = 2;
const FLOW_TYPE_BROWSER: u8 = 2;
const FLOW_TYPE_SETTLING: u8 = 3;
/// Delivery counts are sent; sender notification is not.
const BEHAVIOUR: u16 = 0x1800;
const ALL_PERMISSIONS: u32 = 0x0f;

impl Core {
    pub(crate) fn bind(
        &mut self,
        connection: u64,
        request: &Request<'_>,
        tag: Option<[u8; 3]>,
    ) -> Result<(), CodecError> {
        let name = request.text(par::QUEUE, "queue name")?.unwrap_or_default();
        let selector = request.text(par::SELECTOR, "selector")?.unwrap_or_default();
        let refusal = if !self.client(connection).is_some_and(|client| client.consume) {
            Some(DENIED)
        } else if request.has(par::TOPIC_ENDPOINT) {
            Some(NO_TOPIC_ENDPOINTS)
        } else if !selector.is_empty() {
            Some(Response::new(400, "Invalid Selector"))
        } else if request.has(par::REPLAY_START) {
            Some(Response::new(400, "Message Replay Is Not Supported"))
        } else {
            None
        };
        let found = match refusal {
            Some(response) => Err(response),
            None => self.queue_to_bind(connection, request, name),
        };
        match found {
            Ok(queue) => self.open_flow(connection, request, tag, queue),
            Err(response) => self.refuse(connection, request, tag, response),
        }
        Ok(())
    }

    /// Temporary queues come into being when their client binds.
    fn queue_to_bind(
        &mut self,
        connection: u64,
        request: &Request<'_>,
        name: &str,
    ) -> Result<u32, Response> {
        let is_temporary = request.u8(par::DURABILITY) == Some(NON_DURABLE);
        match self.queue_names.get(name) {
            Some(&queue) => {
                let owner = self.queues.get(&queue).and_then(|queue| queue.owner);
                if owner.is_some() != is_temporary {
                    return Err(Response::new(400, "Invalid Queue or Topic Endpoint Durability"));
                }
                if owner.is_some_and(|owner| owner != connection) {
                    return Err(DENIED);
                }
                let is_browser = request.u8(par::FLOW_TYPE) == Some(FLOW_TYPE_BROWSER);
                if is_browser && self.queues.get(&queue).is_some_and(|q| q.settings.partitions > 0)
                {
                    return Err(Response::new(400, "Browsing Not Supported on Partitioned Queue"));
                }
                Ok(queue)
            }
            None if is_temporary && !name.is_empty() => {
                Ok(self.add_queue(requested_settings(request, name), Some(connection)))
            }
            None => Err(UNKNOWN_QUEUE),
        }
    }

    fn open_flow(
        &mut self,
        connection: u64,
        request: &Request<'_>,
        tag: Option<[u8; 3]>,
        queue_id: u32,
    ) {
        let flow_id = self.next_flow;
        self.next_flow = self.next_flow.wrapping_add(1).max(1);
        let (suid, max_unacked) = (self.spool.catalog.suid, self.max_unacked);
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let ids = wire_ids(request, queue.is_exclusive(), self.spool.catalog.next_id);
        let window = request.window().unwrap_or(0);
        let mut flow = ConsumerFlow::new(queue_id, ids, window, max_unacked);
        flow.wants_changes = request.u8(par::WANTS_FLOW_CHANGES) == Some(1);
        let is_browser = request.u8(par::FLOW_TYPE) == Some(FLOW_TYPE_BROWSER);
        if is_browser {
            flow = flow.browser();
        }
        let wants_changes = flow.wants_changes;
        known.flows.insert(flow_id, flow);
        let key = FlowKey { connection, flow: flow_id };
        if is_browser {
            queue.add_browser(key);
        } else {
            queue.bind(key);
        }
        let mut answer = bound(request.version, queue, flow_id, queue_id)
            .window(window)
            .u32(par::QUOTA_MB, queue.settings.quota_mb.unwrap_or(self.default_quota_mb))
            .u32(par::MAX_MESSAGE_SIZE, self.max_message_size as u32)
            .u32(par::MAX_UNACKED, max_unacked as u32)
            .u64(par::SUID, suid);
        if wants_changes {
            let is_active = u8::from(is_browser || queue.is_active(key));
            answer = answer.u8(par::WANTS_FLOW_CHANGES, 1).u8(par::ACTIVE, is_active);
        }
        answer.put(&mut known.outbox, tag, Some(Response::OK));
        known.notify.notify_one();
        // A partitioned queue may have moved partitions to or from the others.
        self.wake_consumers(queue_id);
    }

    pub(crate) fn unbind(
        &mut self,
        connection: u64,
        request: &Request<'_>,
        tag: Option<[u8; 3]>,
    ) -> Result<(), CodecError> {
        let flow = request.u32(par::FLOW_ID).ok_or(CodecError::Missing { what: "flow id" })?;
        self.release_flow(connection, flow);
        let mut frame = Vec::new();
        Message::new(request.version, kind::UNBIND).u32(par::FLOW_ID, flow).put(
            &mut frame,
            tag,
            Some(Response::OK),
        );
        self.answer(connection, &frame);
        Ok(())
    }

    /// Ends a flow: what it held goes back to its queue, and the next consumer takes over.
    pub(super) fn release_flow(&mut self, connection: u64, flow_id: u32) {
        let known = self.connections.get_mut(&connection);
        let Some(mut flow) = known.and_then(|known| known.flows.remove(&flow_id)) else { return };
        for entry in flow.take_all() {
            self.give_back(flow.queue, entry);
        }
        let key = FlowKey { connection, flow: flow_id };
        let Some(queue) = self.queues.get_mut(&flow.queue) else { return };
        let was_active = queue.is_exclusive() && queue.is_active(key);
        queue.unbind(key);
        let successor = queue.flows().first().copied();
        if let (true, Some(successor)) = (was_active, successor) {
            self.announce_active(successor);
        }
        self.wake_consumers(flow.queue);
    }

    fn announce_active(&mut self, key: FlowKey) {
        let Some(connection) = self.connections.get_mut(&key.connection) else { return };
        if connection.flows.get(&key.flow).is_some_and(|flow| flow.wants_changes) {
            Message::new(3, kind::FLOW_CHANGE).u32(par::FLOW_ID, key.flow).u8(par::ACTIVE, 1).put(
                &mut connection.outbox,
                None,
                None,
            );
        }
    }

    /// Handles a consumer's acknowledgements: of transport (window) and of the application.
    pub(crate) fn consumer_ack(
        &mut self,
        connection: u64,
        request: &Request<'_>,
    ) -> Result<(), CodecError> {
        let flow_id = request.u32(par::FLOW_ID).ok_or(CodecError::Missing { what: "flow id" })?;
        let known = self.connections.get_mut(&connection);
        // An acknowledgement may cross the end of its flow.
        let Some(known) = known else { return Ok(()) };
        let Some(flow) = known.flows.get_mut(&flow_id) else { return Ok(()) };
        flow.transport_ack(request.u64(par::LAST_ACKED), request.window());
        let queue = flow.queue;
        let mut settled = Vec::new();
        for value in request.values(par::APPLICATION_ACK) {
            let range = AckRange::decode(value)?;
            let entries = flow.take_range(range.first, range.last);
            if !entries.is_empty() {
                settled.push((range.outcome, entries));
            }
        }
        known.notify.notify_one();
        self.settle(queue, settled);
        Ok(())
    }
}

/// The part of the answer to a bind that tells of the queue.
fn bound(version: u8, queue: &Queue, flow_id: u32, queue_id: u32) -> Message {
    let is_exclusive = queue.is_exclusive();
    Message::new(version, kind::BIND)
        .u32(par::FLOW_ID, flow_id)
        .u64(par::LAST_ACKED, 0)
        .text(par::QUEUE, &queue.settings.name)
        .u8(par::DURABILITY, if queue.owner.is_some() { NON_DURABLE } else { 1 })
        .u8(par::ACCESS, if is_exclusive { 1 } else { 2 })
        .u32(par::GRANTED_PERMISSIONS, ALL_PERMISSIONS)
        .u32(par::OTHERS_PERMISSIONS, ALL_PERMISSIONS)
        .u8(par::RESPECTS_TTL, 0)
        .bytes(par::BEHAVIOUR, &BEHAVIOUR.to_be_bytes())
        .u32(par::ENDPOINT_ID, queue_id & !TEMPORARY_BIT)
}

/// Which ids a new flow shows. `next_id` is the spool's next one.
fn wire_ids(request: &Request<'_>, is_exclusive: bool, next_id: u64) -> WireIds {
    // A settling flow can fail a message and get it again after newer ones; so can any flow of a
    // queue that it shares.
    let is_settling = request.u8(par::FLOW_TYPE) == Some(FLOW_TYPE_SETTLING);
    let last_received = request.u64(par::LAST_RECEIVED).unwrap_or(0);
    // A client that knows higher ids than the spool has met another spool here before, and would
    // take the lower ids for duplicates.
    let is_known_spool = last_received < next_id;
    if is_exclusive && !is_settling && is_known_spool {
        WireIds::Spool
    } else {
        WireIds::Private { next: last_received.saturating_add(1) }
    }
}
