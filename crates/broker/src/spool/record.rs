//! One record of a segment file.
//!
//! ```text
//! 0  magic "TMR1"   4  payload length u32   8  CRC-32 u32   12  synced u32   16  payload
//! ```
//! The checksum covers length, `synced` and payload. `synced` is the position up to which the file
//! was known to be on disk when the record was written. It tells a torn tail from damage: bytes
//! below it were promised to somebody, bytes above it never were.

use crate::codec::message::Content;

pub(crate) const HEADER_LEN: usize = 16;
const MAGIC: [u8; 4] = *b"TMR1";
/// A longer payload than this cannot have been written: frames are limited to 32 bits and far less.
const MAX_PAYLOAD: usize = 1 << 31;

const KIND_SNAPSHOT: u8 = 0;
const KIND_MESSAGE: u8 = 1;
const KIND_ACK: u8 = 2;
const KIND_CHANGE: u8 = 3;

/// Which publisher flow a message came on, and its id there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin<'a> {
    pub(crate) flow: &'a str,
    pub(crate) message_id: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) id: u64,
    /// Hash of the partition key; for messages without one, of the id.
    pub(crate) hash: u32,
    pub(crate) origin: Option<Origin<'a>>,
    pub(crate) content: Content<'a>,
}

/// What a record says. `Snapshot` and `Change` are JSON, for they are few and worth reading.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    Snapshot(&'a [u8]),
    Message {
        message: Message<'a>,
        queues: Vec<u32>,
    },
    /// The queue is done with these messages: runs of (first id, how many in a row).
    Ack {
        queue: u32,
        runs: Vec<(u64, u32)>,
    },
    Change(&'a [u8]),
}

/// Appends a record whose payload `fill` writes; returns the length of the whole record.
pub(crate) fn put(out: &mut Vec<u8>, synced: u32, fill: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&synced.to_le_bytes());
    fill(out);
    let length = (out.len() - start - HEADER_LEN) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&out[start..]);
    out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
    out.len() - start
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[4..8]);
    hasher.update(&record[12..]);
    hasher.finalize()
}

/// A record whose checksum is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked<'a> {
    pub(crate) synced: u32,
    pub(crate) payload: &'a [u8],
}

impl Checked<'_> {
    pub(crate) fn record_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }
}

/// Reads the record at the front of `bytes`; `None` if there is no whole and undamaged one.
pub(crate) fn check(bytes: &[u8]) -> Option<Checked<'_>> {
    let header = bytes.first_chunk::<HEADER_LEN>()?;
    if header[..4] != MAGIC {
        return None;
    }
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let length = word(4) as usize;
    if length > MAX_PAYLOAD {
        return None;
    }
    let record = bytes.get(..HEADER_LEN + length)?;
    (checksum(record) == word(8))
        .then(|| Checked { synced: word(12), payload: &record[HEADER_LEN..] })
}

/// Position of the next byte sequence that could start a record.
pub(crate) fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}

pub(crate) fn put_snapshot(out: &mut Vec<u8>, json: &[u8]) {
    out.push(KIND_SNAPSHOT);
    out.extend_from_slice(json);
}

pub(crate) fn put_change(out: &mut Vec<u8>, json: &[u8]) {
    out.push(KIND_CHANGE);
    out.extend_from_slice(json);
}

pub(crate) fn put_ack(out: &mut Vec<u8>, queue: u32, runs: &[(u64, u32)]) {
    out.push(KIND_ACK);
    out.extend_from_slice(&queue.to_le_bytes());
    for (first, count) in runs {
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
    }
}

pub(crate) fn put_message(out: &mut Vec<u8>, message: &Message<'_>, queues: &[u32]) {
    out.push(KIND_MESSAGE);
    out.extend_from_slice(&message.id.to_le_bytes());
    out.extend_from_slice(&message.hash.to_le_bytes());
    out.extend_from_slice(&(queues.len() as u32).to_le_bytes());
    for queue in queues {
        out.extend_from_slice(&queue.to_le_bytes());
    }
    let (flow, message_id) =
        message.origin.map_or(("", 0), |origin| (origin.flow, origin.message_id));
    out.extend_from_slice(&(flow.len() as u32).to_le_bytes());
    out.extend_from_slice(flow.as_bytes());
    out.extend_from_slice(&message_id.to_le_bytes());
    let Content { head, params, body } = message.content;
    out.extend_from_slice(&head);
    out.extend_from_slice(&(params.len() as u32).to_le_bytes());
    out.extend_from_slice(params);
    out.extend_from_slice(body);
}

/// Reads a payload; `None` if it is of no known form.
pub(crate) fn parse(payload: &[u8]) -> Option<Record<'_>> {
    let (&kind, rest) = payload.split_first()?;
    match kind {
        KIND_SNAPSHOT => Some(Record::Snapshot(rest)),
        KIND_CHANGE => Some(Record::Change(rest)),
        KIND_ACK => parse_ack(rest),
        KIND_MESSAGE => {
            let mut reader = Reader(rest);
            let mut queues = Vec::new();
            let message = reader.message(|queue| queues.push(queue))?;
            Some(Record::Message { message, queues })
        }
        _ => None,
    }
}

/// Reads a message payload without its list of queues, for delivery.
pub(crate) fn parse_message(payload: &[u8]) -> Option<Message<'_>> {
    match payload.split_first()? {
        (&KIND_MESSAGE, rest) => Reader(rest).message(|_| {}),
        _ => None,
    }
}

fn parse_ack(rest: &[u8]) -> Option<Record<'_>> {
    let mut reader = Reader(rest);
    let queue = reader.u32()?;
    let mut runs = Vec::with_capacity(reader.0.len() / 12);
    while !reader.0.is_empty() {
        runs.push((reader.u64()?, reader.u32()?));
    }
    Some(Record::Ack { queue, runs })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn message(&mut self, mut on_queue: impl FnMut(u32)) -> Option<Message<'a>> {
        let (id, hash) = (self.u64()?, self.u32()?);
        for _ in 0..self.u32()? {
            on_queue(self.u32()?);
        }
        let flow_len = self.u32()? as usize;
        let flow = std::str::from_utf8(self.take(flow_len)?).ok()?;
        let message_id = self.u64()?;
        let head: [u8; 3] = self.take(3)?.try_into().ok()?;
        let params_len = self.u32()? as usize;
        let params = self.take(params_len)?;
        let origin = (!flow.is_empty()).then_some(Origin { flow, message_id });
        Some(Message { id, hash, origin, content: Content { head, params, body: self.0 } })
    }
}
