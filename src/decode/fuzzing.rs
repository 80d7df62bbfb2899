//! What the fuzz targets under `tests/fuzz` call, and the tests with what the fuzzers found: each function
//! keeps the promises of this module with any input, or panics.

mod events;
mod numbers;
mod times;

#[cfg(test)]
mod tests;

pub use events::events;
pub use numbers::decimals;
pub use times::times;

#[cfg(test)]
pub(super) use events::account;

use serde_json::value::RawValue;

use super::debezium::{ColumnKind, Encoding};

/// One value for one column: the first character chooses the column's type, the second one what is known
/// about the encoding, and the rest is JSON. `None` if it is not.
fn case<'i>(
    input: &'i [u8],
    kinds: &[ColumnKind],
    encodings: &[Encoding],
) -> Option<(ColumnKind, Encoding, &'i str)> {
    let [kind, encoding, raw @ ..] = input else { return None };
    let raw: &RawValue = serde_json::from_slice(raw).ok()?;
    Some((*pick(*kind, kinds)?, *pick(*encoding, encodings)?, raw.get()))
}

/// `0` is the first.
fn pick<T>(character: u8, all: &[T]) -> Option<&T> {
    all.get(usize::from(character.wrapping_sub(b'0')) % all.len())
}
