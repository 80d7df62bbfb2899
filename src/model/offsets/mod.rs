//! Where a message is in its queue, where a change is in the one order of changes, and when Oracle made it.

mod event_id;
mod generations;
mod known_offsets;
mod offset_set;
mod scn;

pub use event_id::EventId;
pub use generations::{Generation, Generations, Position, PositionError};
pub use known_offsets::{Knowledge, KnownOffsets};
pub use offset_set::OffsetSet;
pub use scn::Scn;
pub use tidemark_solace::{Offset, OffsetParseError};
