//! The fields that no column declares, kept as the JSON object that they were.

use super::route::Route;
use crate::decode::debezium::{Image, has_bad_escape};
use crate::decode::refusal::EventRefusal;

/// Digits of a number, and of its exponent: what Postgres's numeric is sure to take.
const MAX_DIGITS: usize = 1000;
const MAX_EXPONENT_DIGITS: usize = 3;

/// Writes the undeclared fields of a row as a JSON object, values with their original text, or as what the event's schema section
/// says that they are; nothing if there are none.
///
/// Large fields are refused and not cut, because a dead letter can be replayed.
pub(super) fn write(
    image: &Image<'_>,
    route: &Route,
    text: &mut String,
) -> Result<(), EventRefusal> {
    let (source, limits) = (|| route.table.source.to_string(), &route.limits);
    text.clear();
    let mut unfolded = 0;
    for field in &image.extra {
        if route.unavailable.is(field.raw) {
            continue;
        }
        let (name, raw) = (&field.name, &*route.kept(field, image));
        let unkept = |what: &str| EventRefusal::SchemaMismatch {
            table: source(),
            column: Some(name.to_string()),
            reason: format!("undeclared field {name} holds {what}, which Postgres cannot store"),
        };
        let limit = limits.max_undeclared_bytes.get();
        let (is_text, is_nested) = (raw.starts_with('"'), raw.starts_with(['{', '[']));
        let is_plain = is_text || (!is_nested && raw.len() <= SHORT && !raw.contains(['e', 'E']));
        let measure = if is_plain { JsonMeasure::default() } else { JsonMeasure::of(raw) };
        unfolded += measure.unfolded;
        if text.len() + name.len() + raw.len() + unfolded > limit {
            return Err(EventRefusal::UndeclaredTooLarge { table: source(), limit });
        }
        text.push(if text.is_empty() { '{' } else { ',' });
        if !write_name(name, text) || ((is_text || is_nested) && has_bad_escape(raw)) {
            return Err(unkept("a NUL character or half a surrogate pair"));
        }
        if measure.depth > limits.max_depth.get() {
            let (table, column) = (source(), name.to_string());
            return Err(EventRefusal::TooDeep { table, column, limit: limits.max_depth.get() });
        }
        if measure.has_long_number {
            return Err(unkept("a number of too many digits"));
        }
        text.push_str(raw);
    }
    if !text.is_empty() {
        text.push('}');
    }
    Ok(())
}

/// Characters of a number that has not too many digits.
const SHORT: usize = 5;

/// As in `"NAME":`; `false` if Postgres can't store the name.
fn write_name(name: &str, text: &mut String) -> bool {
    if name.contains('\0') {
        return false;
    }
    if name.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        text.push_str(&serde_json::Value::from(name).to_string());
    } else {
        text.push('"');
        text.push_str(name);
        text.push('"');
    }
    text.push(':');
    true
}

/// What decides whether Postgres takes a JSON text.
#[derive(Default)]
struct JsonMeasure {
    depth: usize,
    has_long_number: bool,
    /// Digits that Postgres writes for exponents: `1e999` comes back from it with all its zeros.
    unfolded: usize,
}

impl JsonMeasure {
    /// `raw` is valid JSON.
    fn of(raw: &str) -> Self {
        let mut shape = Self::default();
        let (mut depth, mut digits, mut is_exponent, mut exponent) = (0usize, 0, false, 0);
        let mut bytes = raw.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => skip_text(&mut bytes),
                b'{' | b'[' => {
                    depth += 1;
                    shape.depth = shape.depth.max(depth);
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                b'0'..=b'9' => {
                    digits += 1;
                    let limit = if is_exponent { MAX_EXPONENT_DIGITS } else { MAX_DIGITS };
                    shape.has_long_number |= digits > limit;
                    if is_exponent && digits <= limit {
                        exponent = 10 * exponent + usize::from(byte - b'0');
                    }
                    continue;
                }
                b'.' | b'+' | b'-' => continue,
                b'e' | b'E' if digits > 0 => {
                    (digits, is_exponent) = (0, true);
                    continue;
                }
                _ => {}
            }
            shape.unfolded += std::mem::take(&mut exponent);
            (digits, is_exponent) = (0, false);
        }
        shape.unfolded += exponent;
        shape
    }
}

/// Past the closing quote.
fn skip_text(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::JsonMeasure;

    #[test]
    fn depth_and_digits_are_counted_outside_of_texts() {
        let digits = |count| "1".repeat(count);
        let cases = [
            ("\"[[[[\"".to_owned(), 0, false),
            ("{\"a\\\"[\":[1,[2]],\"b\":{}}".to_owned(), 3, false),
            (digits(1000), 0, false),
            (digits(1001), 0, true),
            (format!("-{}.{}", digits(600), digits(600)), 0, true),
            (format!("[{0},{0}]", digits(600)), 1, false),
            (format!("\"{}\"", digits(2000)), 0, false),
            ("1e-999".to_owned(), 0, false),
            ("[1E+1000]".to_owned(), 1, true),
        ];
        let unfolded = |raw: &str| JsonMeasure::of(raw).unfolded;
        assert_eq!(unfolded(r#"[1e999,-1.5E-20,"1e5",{"a":2e+3}]"#), 1022);
        assert_eq!((unfolded("1e999"), unfolded("12")), (999, 0));
        for (raw, depth, has_long_number) in cases {
            let shape = JsonMeasure::of(&raw);
            assert_eq!((shape.depth, shape.has_long_number), (depth, has_long_number), "{raw}");
        }
    }
}
