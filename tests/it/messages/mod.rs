//! What arrives: other publishers, dialects, types and special events, through the whole processor.

mod arrays;
pub(crate) mod dialects;
mod end_to_end_interop;
pub(crate) mod interop;
mod oracle_types;
mod samples;
mod solace_source;
mod special_events;
