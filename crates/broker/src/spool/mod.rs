//! The append-only store of messages, their queue references and the catalog.
//!
//! A message is written once, whatever number of queues holds it. Memory keeps an index entry per
//! message (segment, position, length, queues), never a body. Appending only fills a buffer; a
//! [`Batch`] takes the buffer to disk and nothing of it is promised to anybody before
//! [`Spool::batch_done`]. Segments are deleted from the oldest on, when nothing in them is alive;
//! a few survivors are copied forward first (see [`reclaim`]).
//!
//! Not here: which queue gets what, and in which order. Neighbours: `core` owns the spool, the
//! writer thread runs the batches, sessions read bodies through [`Location`].

mod batch;
pub(crate) mod catalog;
mod error;
mod location;
mod part;
mod reclaim;
pub(crate) mod record;
mod recover;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use super::codec::message::Content;
pub(crate) use batch::Batch;
use catalog::{Catalog, Change, TEMPORARY_BIT};
pub use error::SpoolError;
pub(crate) use location::Location;
use part::Part;
use record::{Message, Origin};
pub(crate) use recover::Recovered;
pub(crate) use segment::Segment;

/// Queues that still hold a message; almost always one.
#[derive(Debug, Clone)]
enum Refs {
    One(u32),
    Many(Box<[u32]>),
}

impl Refs {
    fn new(queues: &[u32]) -> Self {
        match queues {
            [queue] => Self::One(*queue),
            many => Self::Many(many.into()),
        }
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(queue) => std::slice::from_ref(queue),
            Self::Many(queues) => queues,
        }
    }
}

#[derive(Debug, Clone)]
struct Stored {
    segment: u64,
    position: u32,
    length: u32,
    /// Of the content; the record's own length changes when it is copied forward.
    size: u32,
    refs: Refs,
}

/// A message that was just appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spooled {
    pub(crate) id: u64,
    /// Of its partition key; without a key, derived from the id.
    pub(crate) hash: u32,
}

#[derive(Debug)]
struct SegmentState {
    segment: Arc<Segment>,
    length: u64,
    live_messages: u64,
    live_bytes: u64,
}

/// The live messages of the oldest segment that are still to be copied forward.
#[derive(Debug)]
struct Survivors {
    segment: u64,
    ids: Vec<u64>,
}

pub(crate) struct Spool {
    dir: PathBuf,
    segment_size: u64,
    /// Ids that are left out after each message.
    pub(crate) ids_between: u64,
    pub(crate) catalog: Catalog,
    index: HashMap<u64, Stored>,
    /// Oldest first; the last one is appended to.
    segments: VecDeque<SegmentState>,
    pending: Vec<Part>,
    pending_bytes: usize,
    /// The pending bytes hold something that is promised to somebody.
    needs_sync: bool,
    /// (segment, position) known to be on disk.
    synced: (u64, u64),
    survivors: Option<Survivors>,
    /// Held for as long as the spool lives: one broker per directory.
    _lock: std::fs::File,
}

impl Spool {
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.segments.iter().map(|state| state.length).sum()
    }

    #[cfg(test)]
    pub(crate) fn message_count(&self) -> usize {
        self.index.len()
    }

    /// Appends a message for `queues` (at least one).
    pub(crate) fn append_message(
        &mut self,
        hash: Option<u32>,
        origin: Option<Origin<'_>>,
        content: Content<'_>,
        queues: &[u32],
    ) -> Spooled {
        let id = self.catalog.next_id;
        self.catalog.next_id += 1 + self.ids_between;
        let hash = hash.unwrap_or((id % u64::from(u32::MAX)) as u32);
        if let Some(origin) = origin {
            self.catalog.set_flow(origin.flow, origin.message_id);
        }
        self.write_message(&Message { id, hash, origin, content }, queues);
        self.needs_sync = true;
        Spooled { id, hash }
    }

    /// Writes a message record at the end and points the index to it.
    fn write_message(&mut self, message: &Message<'_>, queues: &[u32]) -> u32 {
        let (segment, position, length) =
            self.append(|out| record::put_message(out, message, queues));
        let refs = Refs::new(queues);
        let size = message.content.size();
        self.index.insert(message.id, Stored { segment, position, length, size, refs });
        if let Some(state) = self.segments.back_mut() {
            state.live_messages += 1;
            state.live_bytes += u64::from(length);
        }
        length
    }

    /// `queue` is done with `ids`, ascending. Returns the bytes that left the queue.
    pub(crate) fn ack(&mut self, queue: u32, ids: &[u64]) -> u64 {
        if queue & TEMPORARY_BIT == 0 && !ids.is_empty() {
            let runs = runs_of(ids);
            self.append(|out| record::put_ack(out, queue, &runs));
        }
        ids.iter().map(|id| u64::from(self.release(queue, *id))).sum()
    }

    /// Drops one reference without a record: the queue itself is gone. Returns the bytes.
    pub(crate) fn release(&mut self, queue: u32, id: u64) -> u32 {
        let Some(stored) = self.index.get_mut(&id) else { return 0 };
        let (size, length) = (stored.size, stored.length);
        let left: Vec<u32> = match &stored.refs {
            Refs::One(one) if *one == queue => Vec::new(),
            Refs::One(_) => return 0,
            Refs::Many(many) => many.iter().copied().filter(|have| *have != queue).collect(),
        };
        if left.is_empty() {
            let segment = stored.segment;
            self.index.remove(&id);
            self.forget_live(segment, length);
        } else {
            stored.refs = Refs::new(&left);
        }
        size
    }

    fn forget_live(&mut self, segment: u64, length: u32) {
        if let Some(state) = self.segment_mut(segment) {
            state.live_messages -= 1;
            state.live_bytes -= u64::from(length);
        }
    }

    fn segment_mut(&mut self, number: u64) -> Option<&mut SegmentState> {
        let oldest = self.segments.front()?.segment.number;
        self.segments.get_mut(usize::try_from(number.checked_sub(oldest)?).ok()?)
    }

    /// Changes the catalog; the change is on disk when the current batch is done.
    pub(crate) fn change(&mut self, change: Change) {
        let json = to_json(&change);
        self.catalog.apply(change);
        self.append(|out| record::put_change(out, &json));
        self.needs_sync = true;
    }

    pub(crate) fn queues_of(&self, id: u64) -> &[u32] {
        self.index.get(&id).map_or(&[], |stored| stored.refs.as_slice())
    }

    pub(crate) fn locate(&self, id: u64) -> Option<Location> {
        let stored = self.index.get(&id)?;
        let oldest = self.segments.front()?.segment.number;
        let state =
            self.segments.get(usize::try_from(stored.segment.checked_sub(oldest)?).ok()?)?;
        Some(Location {
            segment: Arc::clone(&state.segment),
            position: stored.position,
            length: stored.length,
        })
    }

    fn append(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> (u64, u32, u32) {
        if self.segments.back().is_none_or(|state| state.length >= self.segment_size) {
            self.rotate();
        }
        self.append_here(fill)
    }

    /// Starts a new segment with the catalog as its first record.
    fn rotate(&mut self) {
        let number = self.segments.back().map_or(1, |state| state.segment.number + 1);
        let segment = Arc::new(Segment::planned(&self.dir, number));
        let previous = self.segments.back().map(|state| Arc::clone(&state.segment));
        self.pending.push(Part::new(Arc::clone(&segment), previous, 0));
        self.segments.push_back(SegmentState {
            segment,
            length: 0,
            live_messages: 0,
            live_bytes: 0,
        });
        let json = to_json(&self.catalog);
        self.append_here(|out| record::put_snapshot(out, &json));
        self.needs_sync = true;
    }

    fn append_here(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> (u64, u32, u32) {
        let state = self.segments.back_mut().expect("append rotates first when there is none");
        let number = state.segment.number;
        if self.pending.last().is_none_or(|part| part.segment.number != number) {
            self.pending.push(Part::new(Arc::clone(&state.segment), None, state.length));
        }
        let part = self.pending.last_mut().expect("pushed above");
        // Segments end soon after `segment_size`, so positions fit 32 bits.
        let position = state.length as u32;
        let synced = if self.synced.0 == number { self.synced.1 as u32 } else { 0 };
        let length = record::put(&mut part.bytes, synced, fill);
        state.length += length as u64;
        self.pending_bytes += length;
        (number, position, length as u32)
    }
}

fn runs_of(ids: &[u64]) -> Vec<(u64, u32)> {
    let mut runs: Vec<(u64, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((first, count)) if *first + u64::from(*count) == *id => *count += 1,
            _ => runs.push((*id, 1)),
        }
    }
    runs
}

fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with text keys always have a JSON form")
}
