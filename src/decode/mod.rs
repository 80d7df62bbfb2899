//! Bytes to changelog batches: what a message of the queue says about which row.
//!
//! An event that cannot be decoded exactly costs its own row only: it becomes a dead letter with its
//! original bytes. Nothing here does I/O or knows SQL; `debezium` knows the format, `rows` the
//! declared tables and the Arrow side, `schema` what events say about tables. Decimals never pass through a float, and a value with two
//! plausible readings is refused rather than guessed.

mod arrays;
mod config;
mod debezium;
mod decoded;
mod decoder;
mod epoch_rows;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod limits;
mod profile;
mod refusal;
mod rows;
mod schema;
mod table_decoder;

#[cfg(test)]
mod tests;

pub use arrays::{event_count, register};
pub use config::{DecodeConfig, UnknownTables};
pub use decoded::{DecodeError, Decoded, Passed};
pub use decoder::{Decoder, DecoderSetup};
pub use limits::Limits;
pub use profile::ColumnProfile;
pub use rows::{Evidence, KeptDocuments, UnreadParts};
pub use schema::RegisteredTables;
