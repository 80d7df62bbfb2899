//! What the messages of an epoch say, in the making.

use super::decoded::{DecodeError, Decoded};
use super::limits::MAX_EPOCH_BYTES;
use super::rows::{ExtractedTables, Scratch, TableRows};

/// Collects the rows of all tables, and what else comes of the messages.
pub(super) struct EpochRows<'a> {
    pub(super) decoded: Decoded,
    pub(super) scratch: Scratch<'a>,
    pub(super) extracted: ExtractedTables,
    /// By table; `None` for one that has no rows yet.
    pub(super) tables: Vec<Option<TableRows>>,
}

impl EpochRows<'_> {
    pub(super) fn new(tables: usize, extractions: usize) -> Self {
        Self {
            decoded: Decoded::default(),
            scratch: Scratch::default(),
            extracted: ExtractedTables::new(extractions),
            tables: std::iter::repeat_with(|| None).take(tables).collect(),
        }
    }

    pub(super) fn finish(self) -> Result<Decoded, DecodeError> {
        let bytes = self.extracted.bytes();
        if bytes > MAX_EPOCH_BYTES {
            return Err(DecodeError::EpochTooLarge { bytes });
        }
        let unread_parts = self.extracted.unread();
        let (extracted, kept) = self.extracted.finish();
        let changes = self.tables.into_iter().flatten().map(TableRows::finish).chain(extracted);
        Ok(Decoded { changes: changes.collect(), kept, unread_parts, ..self.decoded })
    }
}
