//! Where a message is in its queue, where a change is in the one order of changes, and when Oracle made it.

mod offset_set;
mod scn;
mod spool_order;

pub use offset_set::OffsetSet;
pub use scn::Scn;
pub use spool_order::{Position, PositionError, SpoolOrder};
pub use tidemark_solace::{Offset, OffsetParseError};
