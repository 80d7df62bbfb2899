//! How much memory the state takes: its limit, and what leaves when it is reached.

mod eviction;
mod limit;

pub use eviction::Evicted;
pub(super) use limit::default_limit;
pub use limit::memory;
