//! Between memory and disk: which rows leave memory, what comes back, and what is written behind committed epochs.

mod evict;
mod flush;
mod recall;

pub(in crate::state) use evict::Eviction;
pub(super) use recall::SortedLookup;
