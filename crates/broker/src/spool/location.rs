//! Where a message record stands, and reading it there.

use std::sync::Arc;

use super::error::SpoolError;
use super::record::{self, Message};
use super::segment::Segment;

/// Where to read a message record.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    pub(crate) segment: Arc<Segment>,
    pub(crate) position: u32,
    pub(crate) length: u32,
}

impl Location {
    pub(crate) fn read(&self) -> Result<Vec<u8>, SpoolError> {
        let mut bytes = vec![0; self.length as usize];
        self.segment.read_at(&mut bytes, u64::from(self.position))?;
        Ok(bytes)
    }

    /// Reads the message out of the record's `bytes`.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] if the bytes are not what was written.
    pub(crate) fn message<'a>(&self, bytes: &'a [u8]) -> Result<Message<'a>, SpoolError> {
        record::check(bytes).and_then(|checked| record::parse_message(checked.payload)).ok_or_else(
            || SpoolError::Damaged {
                path: self.segment.path().to_owned(),
                position: u64::from(self.position),
            },
        )
    }
}
