//! Time as events tell it: the source's clock and the watermark.

mod clock;

pub use clock::{Advanced, Ahead, Clock, TimeKind};
pub(super) use clock::{ClockMark, Clocks, Ticks};
