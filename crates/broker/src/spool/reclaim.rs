//! Giving disk space back: whole segments from the oldest on.
//!
//! An acknowledgement may stand in any segment after its message. Because segments go oldest
//! first, an acknowledgement is never gone before the message it is about.

use std::sync::Arc;

use super::record::Message;
use super::{Segment, Spool, SpoolError, Survivors};

/// Bytes copied forward per step: the core is locked meanwhile.
const STEP_BYTES: usize = 1 << 20;

impl Spool {
    /// Removes from the front every segment without live messages, except the one in use.
    pub(super) fn take_dead_segments(&mut self) -> Vec<Arc<Segment>> {
        let mut dead = Vec::new();
        while self.segments.len() > 1 {
            match self.segments.front() {
                Some(oldest) if oldest.live_messages == 0 && oldest.segment.is_created() => {
                    dead.extend(self.segments.pop_front().map(|state| state.segment));
                }
                _ => break,
            }
        }
        dead
    }

    /// True if the next batch would delete something.
    pub(crate) fn has_dead_segment(&self) -> bool {
        self.segments.len() > 1
            && self
                .segments
                .front()
                .is_some_and(|oldest| oldest.live_messages == 0 && oldest.segment.is_created())
    }

    /// Copies some live messages of the oldest segment forward when the spool is mostly dead space.
    /// Called after each batch; work is spread over batches.
    pub(crate) fn reclaim_step(&mut self) -> Result<(), SpoolError> {
        let Some(oldest) = self.segments.front() else { return Ok(()) };
        let number = oldest.segment.number;
        // Copying from a segment that the writer has not finished would read bytes not yet there.
        if number >= self.synced.0 {
            return Ok(());
        }
        if self.survivors.as_ref().is_none_or(|survivors| survivors.segment != number) {
            self.survivors = None;
            if !self.is_mostly_dead() {
                return Ok(());
            }
            let mut ids: Vec<u64> = self
                .index
                .iter()
                .filter(|(_, stored)| stored.segment == number)
                .map(|(id, _)| *id)
                .collect();
            // Popped from the end, oldest message first.
            ids.sort_unstable_by(|a, b| b.cmp(a));
            self.survivors = Some(Survivors { segment: number, ids });
        }
        self.copy_survivors(number)
    }

    /// More than half of the bytes are dead, and more than a few segments of them.
    fn is_mostly_dead(&self) -> bool {
        let live: u64 = self.segments.iter().map(|state| state.live_bytes).sum();
        self.total_bytes() > 2 * live + 4 * self.segment_size
    }

    fn copy_survivors(&mut self, segment: u64) -> Result<(), SpoolError> {
        let mut copied = 0;
        while copied < STEP_BYTES {
            let next = self.survivors.as_mut().and_then(|survivors| survivors.ids.pop());
            let Some(id) = next else { return Ok(()) };
            let Some(location) = self.locate(id) else { continue };
            if location.segment.number != segment {
                continue;
            }
            let bytes = location.read()?;
            let message = location.message(&bytes)?;
            let queues = self.queues_of(id).to_vec();
            self.forget_live(segment, location.length);
            // Without its origin: the flow has long gone on to higher ids.
            copied += self.write_message(&Message { origin: None, ..message }, &queues) as usize;
        }
        Ok(())
    }
}
