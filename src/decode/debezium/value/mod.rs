//! One JSON value into the declared type of its column, exactly or not at all.

mod binary;
mod column_kind;
mod convert;
mod decimal;
mod encoding;
mod error;
mod json;
mod number;
mod time;
mod time_struct;
mod unavailable;

#[cfg(test)]
mod tests;

pub(in crate::decode) use column_kind::ColumnKind;
pub(in crate::decode) use convert::{Value, convert, instant, micros_of_days, self_describing};
pub(in crate::decode) use encoding::{Encoding, Semantic};
#[cfg(any(test, fuzzing))]
pub(in crate::decode) use error::ValueError;
pub(in crate::decode) use json::has_bad_escape;
pub(in crate::decode) use time::Unit;
pub(in crate::decode) use unavailable::Unavailable;
