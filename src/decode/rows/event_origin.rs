//! Where the rows of an event come from.

use crate::model::{EventId, Offset, Position, Scn};

/// What all rows of one event share.
pub(in crate::decode) struct EventOrigin<'m> {
    /// That of its message.
    pub(in crate::decode) offset: Offset,
    pub(in crate::decode) position: Position,
    pub(in crate::decode) source_ts: Option<i64>,
    pub(in crate::decode) scn: Option<Scn>,
    pub(in crate::decode) topic: &'m str,
}

impl EventOrigin<'_> {
    pub(in crate::decode) fn event_id(&self) -> EventId {
        EventId::new(self.offset, self.position)
    }
}
