//! Numbers of JSON as `jsonb` writes them.

/// All digits of a number, without an exponent: `1.50e1` is `15.0`.
pub(super) fn write_number(raw: &str, text: &mut String) {
    let (number, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let Ok(exponent) = exponent.parse::<i64>() else {
        text.push_str(raw);
        return;
    };
    let digits = format!("{whole}{fraction}");
    // Where the point stands among the digits.
    let point = whole.len() as i64 + exponent;
    let places = (fraction.len() as i64 - exponent).max(0) as usize;
    let padded = match point {
        ..=0 => format!("{}{digits}", "0".repeat(1 + point.unsigned_abs() as usize)),
        _ => format!("{digits:0<width$}", width = point as usize),
    };
    let (whole, fraction) = padded.split_at(padded.len() - places);
    let whole = whole.trim_start_matches('0');
    if is_negative && digits.bytes().any(|digit| digit != b'0') {
        text.push('-');
    }
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
    }
}
