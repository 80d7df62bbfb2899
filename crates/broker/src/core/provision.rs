//! Creating and deleting queues, and subscriptions of queues and connections.

use tracing::info;

use super::Core;
use crate::codec::assured::{Message, Request, kind, par};
use crate::codec::frame::{self, Response, protocol};
use crate::codec::{CodecError, smp};
use crate::queue::{Access, Queue, QueueSettings};
use crate::spool::catalog::{Change, TEMPORARY_BIT};
use crate::subscription::{self, Target};

const NON_DURABLE: u8 = 2;
const NON_EXCLUSIVE: u8 = 2;

pub(super) const DENIED: Response = Response::new(403, "Permission Not Allowed");
pub(super) const UNKNOWN_QUEUE: Response = Response::new(503, "Unknown Queue");
pub(super) const NO_TOPIC_ENDPOINTS: Response =
    Response::new(400, "Topic Endpoints Are Not Supported");

impl Core {
    pub(crate) fn create_queue(
        &mut self,
        connection: u64,
        request: &Request<'_>,
        tag: Option<[u8; 3]>,
    ) -> Result<(), CodecError> {
        let name = request.text(par::QUEUE, "queue name")?.unwrap_or_default();
        let refusal = if !self.client(connection).is_some_and(|client| client.provision) {
            Some(DENIED)
        } else if request.has(par::TOPIC_ENDPOINT) {
            Some(NO_TOPIC_ENDPOINTS)
        } else if name.is_empty() {
            Some(Response::new(400, "Invalid Queue Name"))
        } else if self.queue_names.contains_key(name) {
            Some(Response::new(400, "Already Exists"))
        } else {
            None
        };
        if let Some(response) = refusal {
            self.refuse(connection, request, tag, response);
            return Ok(());
        }
        let settings = requested_settings(request, name);
        let owner = (request.u8(par::DURABILITY) == Some(NON_DURABLE)).then_some(connection);
        let quota_mb = settings.quota_mb.unwrap_or(self.default_quota_mb);
        self.add_queue(settings, owner);
        let mut frame = Vec::new();
        Message::new(request.version, kind::CREATE)
            .text(par::QUEUE, name)
            .u8(par::DURABILITY, request.u8(par::DURABILITY).unwrap_or(1))
            .u8(par::ACCESS, request.u8(par::ACCESS).unwrap_or(1))
            .u32(par::OTHERS_PERMISSIONS, request.u32(par::OTHERS_PERMISSIONS).unwrap_or(0x0f))
            .u32(par::QUOTA_MB, quota_mb)
            .u32(par::MAX_MESSAGE_SIZE, self.max_message_size as u32)
            .put(&mut frame, tag, Some(Response::OK));
        self.answer_when_stored(connection, frame);
        Ok(())
    }

    pub(crate) fn delete_queue(
        &mut self,
        connection: u64,
        request: &Request<'_>,
        tag: Option<[u8; 3]>,
    ) -> Result<(), CodecError> {
        let name = request.text(par::QUEUE, "queue name")?.unwrap_or_default();
        if !self.client(connection).is_some_and(|client| client.provision) {
            self.refuse(connection, request, tag, DENIED);
            return Ok(());
        }
        let Some(&queue) = self.queue_names.get(name) else {
            self.refuse(connection, request, tag, UNKNOWN_QUEUE);
            return Ok(());
        };
        self.remove_queue(queue);
        let mut frame = Vec::new();
        Message::new(request.version, kind::DELETE).text(par::QUEUE, name).put(
            &mut frame,
            tag,
            Some(Response::OK),
        );
        self.answer_when_stored(connection, frame);
        Ok(())
    }

    /// Adds a queue; with an owner it is temporary and leaves no trace on disk.
    pub(super) fn add_queue(&mut self, settings: QueueSettings, owner: Option<u64>) -> u32 {
        let name = settings.name.clone();
        let id = match owner.and_then(|owner| self.connections.get_mut(&owner)) {
            Some(connection) => {
                let id = self.next_temporary_queue;
                self.next_temporary_queue = id.wrapping_add(1) | TEMPORARY_BIT;
                connection.temporary_queues.push(id);
                id
            }
            None => {
                let id = self.spool.catalog.next_queue;
                self.spool.change(Change::QueueCreated { queue: id, settings: settings.clone() });
                info!(queue = %name, "queue created");
                id
            }
        };
        self.queues.insert(id, Queue::new(settings, owner));
        self.queue_names.insert(name, id);
        id
    }

    /// Removes a queue with its messages; its consumers are unbound.
    pub(super) fn remove_queue(&mut self, id: u32) {
        let Some(mut queue) = self.queues.remove(&id) else { return };
        self.queue_names.remove(&queue.settings.name);
        self.subscriptions.remove_target(Target::Queue(id));
        let mut ids = queue.drain_waiting();
        for key in queue.listeners() {
            let Some(connection) = self.connections.get_mut(&key.connection) else { continue };
            if let Some(mut flow) = connection.flows.remove(&key.flow) {
                ids.extend(flow.take_all().iter().map(|entry| entry.id));
            }
            Message::new(3, kind::UNBIND).u32(par::FLOW_ID, key.flow).put(
                &mut connection.outbox,
                None,
                Some(Response::new(503, "Queue Deleted")),
            );
            connection.notify.notify_one();
        }
        if id & TEMPORARY_BIT == 0 {
            self.spool.change(Change::QueueDeleted { queue: id });
            info!(queue = %queue.settings.name, messages = ids.len(), "queue deleted");
        }
        for message in ids {
            self.spool.release(id, message);
        }
    }

    /// False if the queue had this subscription.
    pub(super) fn subscribe_queue(&mut self, queue: u32, topic: &str) -> bool {
        let is_new = self.subscriptions.add(topic, Target::Queue(queue));
        if is_new && queue & TEMPORARY_BIT == 0 {
            self.spool.change(Change::Subscribed { queue, topic: topic.to_owned() });
        }
        is_new
    }

    fn unsubscribe_queue(&mut self, queue: u32, topic: &str) -> bool {
        let was_there = self.subscriptions.remove(topic, Target::Queue(queue));
        if was_there && queue & TEMPORARY_BIT == 0 {
            self.spool.change(Change::Unsubscribed { queue, topic: topic.to_owned() });
        }
        was_there
    }

    /// Handles a subscription request. Answers repeat the request's body.
    pub(crate) fn subscribe(
        &mut self,
        connection: u64,
        body: &[u8],
        tag: Option<[u8; 3]>,
    ) -> Result<(), CodecError> {
        let request = smp::Request::decode(body)?;
        let response = self.change_subscription(connection, &request.change);
        if request.wants_response {
            let mut frame = Vec::new();
            let params = frame::response_params(tag, Some(response));
            frame::put_frame(&mut frame, protocol::SMP, &params, body);
            self.answer_when_stored(connection, frame);
        }
        Ok(())
    }

    fn change_subscription(&mut self, connection: u64, change: &smp::Change<'_>) -> Response {
        let direct = Target::Connection(connection);
        let (topic, queue) = match *change {
            smp::Change::AddDirect { topic } | smp::Change::RemoveDirect { topic } => (topic, None),
            smp::Change::AddToQueue { queue, topic }
            | smp::Change::RemoveFromQueue { queue, topic } => (topic, Some(queue)),
            smp::Change::Unknown => {
                return Response::new(400, "Subscription Request Not Supported");
            }
        };
        if !subscription::is_valid(topic) {
            return Response::new(400, "Subscription Parse Error");
        }
        let queue = match queue {
            Some(name) => match self.changeable_queue(connection, name) {
                Ok(queue) => queue,
                Err(response) => return response,
            },
            None => 0,
        };
        let (is_done, otherwise) = match change {
            smp::Change::AddDirect { .. } => (self.subscriptions.add(topic, direct), EXISTS),
            smp::Change::RemoveDirect { .. } => {
                (self.subscriptions.remove(topic, direct), NOT_FOUND)
            }
            smp::Change::AddToQueue { .. } => (self.subscribe_queue(queue, topic), EXISTS),
            smp::Change::RemoveFromQueue { .. } | smp::Change::Unknown => {
                (self.unsubscribe_queue(queue, topic), NOT_FOUND)
            }
        };
        if is_done { Response::OK } else { otherwise }
    }

    fn changeable_queue(&self, connection: u64, name: &str) -> Result<u32, Response> {
        let queue = *self.queue_names.get(name).ok_or(UNKNOWN_QUEUE)?;
        let is_own = queue & TEMPORARY_BIT != 0;
        match self.client(connection) {
            Some(client) if client.provision || is_own => Ok(queue),
            _ => Err(Response::new(403, "Subscription ACL Denied")),
        }
    }

    /// Answers a request with an error.
    pub(crate) fn refuse(
        &mut self,
        connection: u64,
        request: &Request<'_>,
        tag: Option<[u8; 3]>,
        response: Response,
    ) {
        let mut frame = Vec::new();
        Message::new(request.version, request.kind).put(&mut frame, tag, Some(response));
        self.answer(connection, &frame);
    }
}

const EXISTS: Response = Response::new(400, "Subscription Already Exists");
const NOT_FOUND: Response = Response::new(400, "Subscription Not Found");

/// The queue that a create or bind request describes.
pub(super) fn requested_settings(request: &Request<'_>, name: &str) -> QueueSettings {
    let is_shared = request.u8(par::ACCESS) == Some(NON_EXCLUSIVE);
    let max_redelivery = request.u8(par::MAX_REDELIVERY).map(u32::from).filter(|max| *max > 0);
    QueueSettings {
        name: name.to_owned(),
        access: if is_shared { Access::NonExclusive } else { Access::Exclusive },
        partitions: 0,
        quota_mb: request.u32(par::QUOTA_MB),
        max_redelivery,
        dead_message_queue: None,
    }
}
