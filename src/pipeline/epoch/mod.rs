//! One epoch: from messages to what is committed.

mod counters;
pub(super) mod decode_floods;
pub(super) mod diversion;
mod epochs_in_flight;
pub(super) mod job;
pub(super) mod landing_reader;
mod open_epoch;
pub(super) mod poison_search;
pub(super) mod processor;
mod replay;
pub(super) mod result_letters;
mod screening;
