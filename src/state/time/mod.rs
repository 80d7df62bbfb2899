//! Time as events tell it: the source's clock, the watermark, and events that are late by it.

mod clock;
mod late_events;

pub use clock::{Advanced, Ahead, Clock, TimeKind};
pub(super) use clock::{Clocks, Ticks};
pub use late_events::Lateness;
pub(super) use late_events::event_times;
