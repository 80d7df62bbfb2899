//! Debezium's JSON: the envelope around a change, the row images in it, and their values.
//!
//! It knows neither offsets nor batches: bytes in, borrowed fields and typed values out.

mod envelope;
mod image;
mod schema_section;
mod value;

pub(super) use envelope::{Action, Change, Event, read};
pub(super) use image::{Field, Image, Target};
pub(super) use schema_section::semantics;
pub(super) use value::{
    Encoding, Kind, Semantic, Unavailable, Value, convert, has_bad_escape, micros_of_days,
};
