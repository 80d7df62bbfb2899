//! Group commit: everything appended since the last time, in one write and one sync.

use std::sync::Arc;

use super::part::Part;
use super::{Segment, Spool, SpoolError};

/// What one round of the writer thread takes to disk. An error leaves the state of the files
/// unknown; the broker must stop and recover.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    parts: Vec<Part>,
    needs_sync: bool,
    /// Segments that nothing refers to once this batch is on disk.
    dead: Vec<Arc<Segment>>,
}

impl Batch {
    /// Writes, syncs if anything was promised, then deletes dead segments. Blocks.
    pub(crate) fn write(&self) -> Result<(), SpoolError> {
        for part in &self.parts {
            part.write()?;
        }
        if let (true, Some(last)) = (self.is_synced(), self.parts.last()) {
            last.segment.sync()?;
        }
        for segment in &self.dead {
            segment.delete()?;
        }
        Ok(())
    }

    /// Survivors were copied out of a dead segment, so it may go only after a sync.
    fn is_synced(&self) -> bool {
        self.needs_sync || !self.dead.is_empty()
    }
}

impl Spool {
    /// Takes everything appended so far. One batch at a time: the next is taken after
    /// [`Spool::batch_done`].
    pub(crate) fn take_batch(&mut self) -> Batch {
        self.pending_bytes = 0;
        let parts = std::mem::take(&mut self.pending);
        let needs_sync = std::mem::take(&mut self.needs_sync);
        let dead = self.take_dead_segments();
        if let (false, true, Some(state)) =
            (dead.is_empty(), parts.is_empty(), self.segments.back())
        {
            // Nothing new to write, but earlier copies of survivors still have to be synced.
            let part = Part::new(Arc::clone(&state.segment), None, state.length);
            return Batch { parts: vec![part], needs_sync: true, dead };
        }
        Batch { parts, needs_sync, dead }
    }

    pub(crate) fn batch_done(&mut self, batch: &Batch) {
        if let (true, Some(last)) = (batch.is_synced(), batch.parts.last()) {
            self.synced = (last.segment.number, last.end());
        }
    }
}
