//! Dead letters in their table: written, listed, asked for again.

pub(super) mod json;
pub(super) mod letter_table;
mod pages;
pub(super) mod replay_outcomes;
pub(super) mod replay_requests;
pub(super) mod request_letters;
pub(super) mod store;
