//! What is taken out of an epoch before it is folded: late events, old snapshot rows, rows that can't be whole; and
//! times that the clock does not follow.

mod implausible_times;
pub(super) mod late_events;
pub(super) mod stale_snapshots;
pub(super) mod unknown_lobs;

pub(super) use implausible_times::ImplausibleTimes;
