//! The bytes of one write to one segment.

use std::sync::Arc;

use super::error::SpoolError;
use super::segment::Segment;

/// Bytes for one segment.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) segment: Arc<Segment>,
    /// The segment before a new one: it must be whole on disk before the new one exists, because
    /// only the last segment may have a torn tail.
    previous: Option<Arc<Segment>>,
    position: u64,
    pub(super) bytes: Vec<u8>,
}

impl Part {
    pub(super) fn new(
        segment: Arc<Segment>,
        previous: Option<Arc<Segment>>,
        position: u64,
    ) -> Self {
        Self { segment, previous, position, bytes: Vec::new() }
    }

    pub(super) fn write(&self) -> Result<(), SpoolError> {
        if !self.segment.is_created() {
            if let Some(previous) = &self.previous {
                previous.sync()?;
            }
            self.segment.create()?;
        }
        self.segment.write_at(&self.bytes, self.position)
    }

    pub(super) fn end(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }
}
