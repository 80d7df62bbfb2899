//! Debezium's JSON: the dialects of a change event, the row images in it, and their values.
//!
//! It knows neither offsets nor batches: bytes in, borrowed fields and typed values out.

mod body;
mod cloud_event;
mod dialect;
mod envelope;
mod event;
mod fields;
mod flat;
mod golden_gate;
mod headers;
mod image;
mod json_text;
mod row_form;
mod schema_section;
mod topic;
mod value;

pub(super) use body::{Bodies, bodies, event_count, is_array};
pub(super) use dialect::read;
pub(super) use envelope::is_kind_of_signal;
pub(super) use event::{ChangeAction, ChangeEvent, DebeziumEvent, SchemaMessage};
pub(super) use headers::key as key_property;
pub(super) use image::{ColumnTarget, Field, Image};
pub(super) use row_form::RowReading;
pub(super) use schema_section::{DescribedField, semantics};
pub(super) use topic::TopicPattern;
pub(super) use value::{
    ColumnKind, Encoding, Semantic, Unavailable, Value, convert, has_bad_escape, micros_of_days,
    self_describing,
};
#[cfg(any(test, fuzzing))]
pub(super) use value::{Unit, ValueError};
