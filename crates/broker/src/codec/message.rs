//! Data messages: taking a published frame apart and building the delivered one.

use super::frame::{FLAG_ADF, Frame, HEADER_LEN, Param, ParamKind, protocol};
use super::{CodecError, sdt, text};

mod par {
    pub(super) const PUBLISHER_ID: u8 = 0x01;
    pub(super) const PUBLISHER_MESSAGE_ID: u8 = 0x02;
    pub(super) const DELIVERY_MODE: u8 = 0x10;
    pub(super) const MESSAGE_ID: u8 = 0x11;
    pub(super) const PREVIOUS_ID: u8 = 0x12;
    pub(super) const REDELIVERED: u8 = 0x13;
    pub(super) const SUMMARY: u8 = 0x16;
    pub(super) const FLOW_ID: u8 = 0x17;
    pub(super) const TOPIC: u8 = 0x18;
    pub(super) const FLOW_REDELIVERED: u8 = 0x19;
    pub(super) const EXTENDED: u8 = 0x1f;
}

const DMQ_ELIGIBLE: u8 = 0x08;
const QUEUE_PREFIX: &str = "#P2P/QUE/";
const TEMPORARY_QUEUE_PREFIX: &str = "#P2P/QTMP/";

/// What of a published message is kept: the three header bytes that describe it, the parameters
/// that are the sender's (not those of its flow) and the body, which stays opaque.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) head: [u8; 3],
    pub(crate) params: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Content<'_> {
    /// Bytes that count against quotas.
    pub(crate) fn size(&self) -> u32 {
        (self.params.len() + self.body.len()) as u32
    }

    pub(crate) fn is_dmq_eligible(&self) -> bool {
        self.head[0] & DMQ_ELIGIBLE != 0
    }
}

/// One message as a client published it.
#[derive(Debug)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    /// Publisher flow and the message's id on it; absent for direct messages.
    pub(crate) flow_id: Option<u32>,
    pub(crate) message_id: Option<u64>,
    head: [u8; 3],
    kept: Vec<u8>,
    summary: Option<&'a [u8]>,
    body: &'a [u8],
}

/// Whom a message is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Destination<'a> {
    Topic(&'a str),
    Queue(&'a str),
}

impl<'a> Publish<'a> {
    pub(crate) fn decode(frame: &Frame<'a>) -> Result<Self, CodecError> {
        let header = frame.header;
        let mut publish = Self {
            topic: "",
            flow_id: None,
            message_id: None,
            head: [header[0], header[2], header[3]],
            kept: Vec::with_capacity(header.len()),
            summary: None,
            body: frame.body,
        };
        for param in frame.params() {
            publish.take(param?)?;
        }
        Ok(publish)
    }

    fn take(&mut self, param: Param<'a>) -> Result<(), CodecError> {
        let Param { kind, value, raw } = param;
        match kind {
            // Correlation tag and "acknowledge at once" concern this connection only.
            ParamKind::Light(0 | 3) => return Ok(()),
            ParamKind::Standard(
                par::PUBLISHER_ID
                | par::PUBLISHER_MESSAGE_ID
                | par::PREVIOUS_ID
                | par::REDELIVERED
                | par::FLOW_REDELIVERED
                | par::EXTENDED,
            ) => return Ok(()),
            ParamKind::Standard(par::MESSAGE_ID) => {
                self.message_id = value.try_into().ok().map(u64::from_be_bytes);
                return Ok(());
            }
            ParamKind::Standard(par::FLOW_ID) => {
                self.flow_id = value.try_into().ok().map(u32::from_be_bytes);
                return Ok(());
            }
            ParamKind::Standard(par::TOPIC) => self.topic = text(value, "topic")?,
            ParamKind::Standard(par::SUMMARY) => self.summary = Some(value),
            // A direct message that a queue takes becomes non-persistent.
            ParamKind::Standard(par::DELIVERY_MODE) if self.head[0] & FLAG_ADF == 0 => {
                return Ok(());
            }
            ParamKind::Light(_) | ParamKind::Standard(_) => {}
        }
        self.kept.extend_from_slice(raw);
        Ok(())
    }

    pub(crate) fn destination(&self) -> Destination<'a> {
        if let Some(queue) = self.topic.strip_prefix(QUEUE_PREFIX) {
            Destination::Queue(queue)
        } else if self.topic.starts_with(TEMPORARY_QUEUE_PREFIX) {
            Destination::Queue(self.topic)
        } else {
            Destination::Topic(self.topic)
        }
    }

    /// The value of the partition key property, hashed; messages without one have none.
    pub(crate) fn partition_hash(&self) -> Option<u32> {
        sdt::partition_key(self.summary?, self.body).map(crc32fast::hash)
    }

    pub(crate) fn content(&self) -> Content<'_> {
        Content { head: self.head, params: &self.kept, body: self.body }
    }

    /// Appends the message as direct subscribers get it.
    pub(crate) fn put_direct(&self, out: &mut Vec<u8>) {
        let head = [self.head[0] & !FLAG_ADF, self.head[1], self.head[2]];
        put_message(out, Content { head, params: &self.kept, body: self.body }, &[]);
    }
}

/// How one delivery of a stored message differs from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) flow_id: u32,
    /// Id on the flow and the one sent before it: rising, or the client drops the message silently.
    pub(crate) wire_id: u64,
    pub(crate) previous_id: u64,
    /// The spool id if `wire_id` is not it.
    pub(crate) spool_id: Option<u64>,
    /// How often it was delivered before, if it may have been.
    pub(crate) redelivered: Option<u32>,
}

impl Delivery {
    /// Appends the frame that delivers `content`.
    pub(crate) fn put(&self, out: &mut Vec<u8>, content: Content<'_>) {
        let mut params = [0_u8; 64];
        let mut used = 0;
        let mut add = |bytes: &[u8]| {
            params[used..used + bytes.len()].copy_from_slice(bytes);
            used += bytes.len();
        };
        // A message that came as direct has lost its delivery mode: 0 is non-persistent.
        if content.head[0] & FLAG_ADF == 0 {
            add(&[0x90, 3, 0]);
        }
        add(&[0x91, 10]);
        add(&self.wire_id.to_be_bytes());
        add(&[0x92, 10]);
        add(&self.previous_id.to_be_bytes());
        add(&[par::FLOW_ID, 6]);
        add(&self.flow_id.to_be_bytes());
        if self.redelivered.is_some() {
            add(&[par::REDELIVERED, 2]);
        }
        let spool_length = if self.spool_id.is_some() { 10 } else { 0 };
        let count_length = if self.redelivered.is_some() { 6 } else { 0 };
        if spool_length + count_length > 0 {
            add(&[par::EXTENDED, 2 + spool_length + count_length]);
        }
        if let Some(spool_id) = self.spool_id {
            add(&[0x40, 0x29]);
            add(&spool_id.to_be_bytes());
        }
        if let Some(count) = self.redelivered {
            add(&[0x30, 0x2e]);
            add(&count.to_be_bytes());
        }
        let head = [content.head[0] | FLAG_ADF, content.head[1], content.head[2]];
        put_message(out, Content { head, ..content }, &params[..used]);
    }
}

fn put_message(out: &mut Vec<u8>, content: Content<'_>, more_params: &[u8]) {
    let header_len = HEADER_LEN + content.params.len() + more_params.len();
    let [flags, priority, hops] = content.head;
    out.reserve(header_len + content.body.len());
    out.extend_from_slice(&[flags, protocol::MESSAGE, priority, hops]);
    out.extend_from_slice(&(header_len as u32).to_be_bytes());
    out.extend_from_slice(&((header_len + content.body.len()) as u32).to_be_bytes());
    out.extend_from_slice(content.params);
    out.extend_from_slice(more_params);
    out.extend_from_slice(content.body);
}
