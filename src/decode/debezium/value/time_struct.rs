//! Instants as structs (`time.precision.mode=structured`): a field per part, in UTC unless they say else.

use chrono::NaiveDate;
use serde::Deserialize;

use super::ValueError;
use super::time::MICROS_PER_SECOND;

/// Any other field may change what the others mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    year: i32,
    month: u32,
    day: u32,
    #[serde(default)]
    hour: u32,
    #[serde(default)]
    minute: u32,
    #[serde(default)]
    second: u32,
    #[serde(default, alias = "nano")]
    nanos: u32,
    #[serde(default, alias = "offsetSeconds", alias = "offset_seconds")]
    offset: i32,
    #[serde(default, rename = "precision")]
    _precision: Option<u32>,
}

/// Microseconds since 1970. As counts of nanoseconds are, what is below a microsecond is cut.
pub(super) fn micros(raw: &str) -> Result<i64, ValueError> {
    let not = ValueError::Not { expected: "a date or time" };
    let parts: Parts = serde_json::from_str(raw).map_err(|_| not.clone())?;
    let time = NaiveDate::from_ymd_opt(parts.year, parts.month, parts.day).and_then(|date| {
        date.and_hms_nano_opt(parts.hour, parts.minute, parts.second, parts.nanos)
    });
    let micros = time.ok_or(not)?.and_utc().timestamp_micros();
    Ok(micros - i64::from(parts.offset) * MICROS_PER_SECOND)
}
