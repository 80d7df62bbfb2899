//! Instants as structs (`time.precision.mode=structured`): a field per part, in UTC unless they say else.
//!
//! Source: Debezium's `StructuredDate`, `StructuredTimestamp` and `StructuredZonedTimestamp`.

use std::borrow::Cow;

use chrono::NaiveDate;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::ValueError;
use super::time::MICROS_PER_SECOND;

/// No zone is farther from UTC, and ISO text has no more either.
const MAX_OFFSET_SECONDS: u32 = 18 * 3600;

/// Any other field may change what the others mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct InstantParts<'a> {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    hour: Option<u32>,
    minute: Option<u32>,
    second: Option<u32>,
    #[serde(alias = "nano")]
    nanos: Option<u32>,
    /// Instead of `nanos`, in later versions.
    picoseconds: Option<u64>,
    #[serde(alias = "offset", alias = "offset_seconds")]
    offset_seconds: Option<i32>,
    /// The region that the offset is of.
    #[serde(borrow, default)]
    zone_id: Option<Cow<'a, str>>,
    /// An infinity.
    special_value: Option<IgnoredAny>,
    #[serde(rename = "precision")]
    _precision: Option<IgnoredAny>,
}

/// Microseconds since 1970. As counts of nanoseconds are, what is below a microsecond is cut.
pub(super) fn micros(raw: &str) -> Result<i64, ValueError> {
    let not = ValueError::Not { expected: "a date or time" };
    let parts: InstantParts<'_> = serde_json::from_str(raw).map_err(|_| not.clone())?;
    if parts.special_value.is_some() {
        return Err(ValueError::OutOfRange);
    }
    parts.micros().ok_or(not)
}

impl InstantParts<'_> {
    fn micros(&self) -> Option<i64> {
        let date = NaiveDate::from_ymd_opt(self.year?, self.month?, self.day?)?;
        let [hour, minute, second] =
            [self.hour, self.minute, self.second].map(Option::unwrap_or_default);
        let time = date.and_hms_nano_opt(hour, minute, second, self.nanos()?)?;
        Some(time.and_utc().timestamp_micros() - self.offset()? * MICROS_PER_SECOND)
    }

    fn nanos(&self) -> Option<u32> {
        let nanos = match (self.nanos, self.picoseconds) {
            (nanos, None) => nanos.unwrap_or_default(),
            (None, Some(picoseconds)) => u32::try_from(picoseconds / 1000).ok()?,
            (Some(_), Some(_)) => return None,
        };
        // More is a leap second to the calendar.
        (nanos < 1_000_000_000).then_some(nanos)
    }

    /// A region alone does not tell it.
    fn offset(&self) -> Option<i64> {
        let is_utc = matches!(self.zone_id.as_deref(), None | Some("Z" | "UTC" | "GMT"));
        let offset = self.offset_seconds.or(is_utc.then_some(0))?;
        (offset.unsigned_abs() <= MAX_OFFSET_SECONDS).then_some(offset.into())
    }
}
