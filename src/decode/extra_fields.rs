//! The fields that no column declares, kept as the JSON object that they were.

use super::debezium::{Field, Unavailable, has_bad_escape};

/// Bytes of one row's undeclared fields.
const MAX_BYTES: usize = 1 << 20;

/// Why undeclared fields cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExtraFieldsError {
    #[error("undeclared fields take more than {MAX_BYTES} bytes: declare the large ones")]
    TooLarge,
    #[error(
        "undeclared field {name} holds a NUL character or half a surrogate pair, which Postgres \
         cannot store"
    )]
    BadCharacter { name: String },
}

/// Writes `fields` as a JSON object, values with their original text; nothing if there are none.
///
/// Large fields are refused and not cut, because a dead letter can be replayed.
pub(super) fn write(
    fields: &[Field<'_>],
    unavailable: &Unavailable,
    text: &mut String,
) -> Result<(), ExtraFieldsError> {
    text.clear();
    for Field { name, raw } in fields {
        if unavailable.is(raw) {
            continue;
        }
        if name.contains('\0') || has_bad_escape(raw) {
            return Err(ExtraFieldsError::BadCharacter { name: name.to_string() });
        }
        if text.len() + name.len() + raw.len() > MAX_BYTES {
            return Err(ExtraFieldsError::TooLarge);
        }
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&serde_json::Value::from(&**name).to_string());
        text.push(':');
        text.push_str(raw);
    }
    if !text.is_empty() {
        text.push('}');
    }
    Ok(())
}
