//! What can't be processed: events, rows and requests that are refused, and their replay.

mod decode_floods;
pub(crate) mod dlq;
mod failing_query;
mod refused_requests;
pub(crate) mod refused_results;
mod refused_rows;
