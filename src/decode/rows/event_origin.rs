//! Where the rows of a message come from.

use crate::model::{Offset, Position, Scn};

/// What all rows of one message share.
pub(in crate::decode) struct EventOrigin<'m> {
    pub(in crate::decode) offset: Offset,
    pub(in crate::decode) position: Position,
    pub(in crate::decode) source_ts: Option<i64>,
    pub(in crate::decode) scn: Option<Scn>,
    pub(in crate::decode) topic: &'m str,
}
