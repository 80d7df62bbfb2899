//! Instants as Debezium sends them: a count since 1970 in one of four units, or ISO text.

use std::ops::RangeInclusive;

use chrono::NaiveDate;

use super::error::ValueError;

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// The unit of a count since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decode) enum Unit {
    Days,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    pub(in crate::decode) fn name(self) -> &'static str {
        match self {
            Self::Days => "days",
            Self::Millis => "milliseconds",
            Self::Micros => "microseconds",
            Self::Nanos => "nanoseconds",
        }
    }

    /// Microseconds since 1970.
    ///
    /// Nanoseconds are cut: a microsecond is what the declared type holds, and `TIMESTAMP(9)`
    /// columns could never be read otherwise.
    pub(in crate::decode) fn micros(self, count: i64) -> Option<i64> {
        match self {
            Self::Days => count.checked_mul(MICROS_PER_DAY),
            Self::Millis => count.checked_mul(1000),
            Self::Micros => Some(count),
            Self::Nanos => Some(count.div_euclid(1000)),
        }
    }
}

/// 1973-03-03 in milliseconds. Below it a count may as well be days or seconds.
const MIN_MILLIS: u64 = 100_000_000_000;
/// 2262-04-11, the last day that nanoseconds reach.
const MAX_MILLIS: u64 = 9_223_372_036_854;
/// 1971-01-01 in microseconds and nanoseconds.
const MIN_MICROS: u64 = 31_536_000_000_000;
const MAX_MICROS: u64 = 9_223_372_036_854_775;
const MIN_NANOS: u64 = 31_536_000_000_000_000;

/// The instants that an Oracle table holds, in microseconds: from 4712 BC to 9999-12-31.
const ORACLE_MICROS: RangeInclusive<i64> = FIRST_MICROS..=253_402_300_799_999_999;

/// The last day that an Oracle table holds, 9999-12-31.
const LAST_ORACLE_DAY: u64 = 2_932_896;

/// Microseconds since 1970 of a count whose unit nobody told.
///
/// The magnitude tells the unit for instants up to 2262, and as far back before 1970: in milliseconds from
/// 1973 (before 1966) on, in the finer units from 1978 (before 1963) on. A count between these would be a far
/// date of Oracle in the next coarser unit, such as 0001-01-01 or 9999-12-31. Zero is 1970-01-01 in every unit.
///
/// # Errors
/// [`ValueError::AmbiguousTime`] for everything else: a wrong unit is a wrong date.
pub(super) fn micros_by_magnitude(count: i64) -> Result<i64, ValueError> {
    let (unit, coarser) = match count.unsigned_abs() {
        0 => return Ok(0),
        MIN_MILLIS..=MAX_MILLIS => (Unit::Millis, None),
        MIN_MICROS..=MAX_MICROS => (Unit::Micros, Some(Unit::Millis)),
        MIN_NANOS.. => (Unit::Nanos, Some(Unit::Micros)),
        _ => return Err(ValueError::AmbiguousTime),
    };
    if coarser.is_some_and(|coarser| is_of_oracle(coarser, count)) {
        return Err(ValueError::AmbiguousTime);
    }
    unit.micros(count).ok_or(ValueError::OutOfRange)
}

fn is_of_oracle(unit: Unit, count: i64) -> bool {
    unit.micros(count).is_some_and(|micros| ORACLE_MICROS.contains(&micros))
}

/// Days since 1970 of a count in a column declared as DATE, where a small count is days. Of the units that a
/// larger one may be in, that counts in which it is a midnight.
///
/// # Errors
/// [`ValueError::AmbiguousTime`] if it is one in two units, or too small to tell;
/// [`ValueError::TimeOfDay`] if it is one in none.
pub(super) fn days_by_magnitude(count: i64) -> Result<i64, ValueError> {
    if count.unsigned_abs() <= LAST_ORACLE_DAY {
        return Ok(count);
    }
    if count.unsigned_abs() < MIN_MILLIS {
        return Err(ValueError::AmbiguousTime);
    }
    let units = [(Unit::Millis, MIN_MILLIS), (Unit::Micros, MIN_MICROS), (Unit::Nanos, MIN_NANOS)];
    let is_possible =
        |(unit, least): &(Unit, u64)| count.unsigned_abs() >= *least && is_of_oracle(*unit, count);
    let possible = units.into_iter().filter(is_possible);
    let mut days = possible.filter_map(|(unit, _)| days_of_count(count, unit));
    match (days.next(), days.next()) {
        (Some(days), None) => Ok(days),
        (Some(_), Some(_)) => Err(ValueError::AmbiguousTime),
        (None, _) => Err(ValueError::TimeOfDay),
    }
}

/// `None` if the count is no midnight.
fn days_of_count(count: i64, unit: Unit) -> Option<i64> {
    let per_day = match unit {
        Unit::Days => 1,
        Unit::Millis => MICROS_PER_DAY / 1000,
        Unit::Micros => MICROS_PER_DAY,
        Unit::Nanos => MICROS_PER_DAY * 1000,
    };
    (count % per_day == 0).then_some(count / per_day)
}

/// # Errors
/// [`ValueError::TimeOfDay`] if the instant is not a midnight.
pub(super) fn days_of(micros: i64) -> Result<i64, ValueError> {
    if micros % MICROS_PER_DAY == 0 {
        Ok(micros / MICROS_PER_DAY)
    } else {
        Err(ValueError::TimeOfDay)
    }
}

pub(super) fn micros_of_days(days: i64) -> Option<i64> {
    Unit::Days.micros(days)
}

/// Microseconds since 1970 of `2024-01-20`, `2024-01-15T10:00:00Z`, `2024-01-15 10:00:00.5 +02:00`.
///
/// Text without an offset is taken as UTC, which is what Debezium sends. As counts of nanoseconds are, what is
/// below a microsecond is cut.
///
/// # Errors
/// [`ValueError::Not`] if it is no such text.
pub(super) fn micros_of_text(text: &str) -> Result<i64, ValueError> {
    let mut rest = Scanner { bytes: text.as_bytes() };
    let parsed = date_and_time(&mut rest).filter(|_| rest.bytes.is_empty());
    parsed.ok_or(ValueError::Not { expected: "a date or time" })
}

fn date_and_time(text: &mut Scanner<'_>) -> Option<i64> {
    let year = year(text)?;
    text.expect(b'-')?;
    let month = text.digits(2)?;
    text.expect(b'-')?;
    let date = NaiveDate::from_ymd_opt(year, month, text.digits(2)?)?;
    let midnight = date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros();
    // A date as ISO text of Debezium ends in Z.
    if matches!(text.bytes, b"" | b"Z") {
        text.bytes = &[];
        return Some(midnight);
    }
    text.expect(b'T').or_else(|| text.expect(b' '))?;
    let hour = text.digits(2).filter(|hour| *hour < 24)?;
    text.expect(b':')?;
    let minute = text.digits(2).filter(|minute| *minute < 60)?;
    let second = match text.expect(b':') {
        Some(()) => text.digits(2).filter(|second| *second < 60)?,
        None => 0,
    };
    let nanos = if text.expect(b'.').is_some() { text.fraction()? } else { 0 };
    let seconds = i64::from(hour * 3600 + minute * 60 + second) - offset_seconds(text)?;
    Some(midnight + seconds * MICROS_PER_SECOND + nanos / 1000)
}

/// Four digits, or more after a sign. Year 0 is 1 BC.
fn year(text: &mut Scanner<'_>) -> Option<i32> {
    let sign = match (text.expect(b'-'), text.expect(b'+')) {
        (Some(()), _) => -1,
        (None, Some(())) => 1,
        (None, None) => return i32::try_from(text.digits(4)?).ok(),
    };
    let length = text.bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let year = text.digits(Some(length).filter(|length| (4..=6).contains(length))?)?;
    Some(sign * i32::try_from(year).ok()?)
}

/// The first moment that Postgres can hold: 4714-11-24 BC. Its last is beyond this count.
const FIRST_MICROS: i64 = -210_866_803_200_000_000;
const FIRST_DAY: i64 = -2_440_588;
/// 5874897-12-31.
const LAST_DAY: i64 = 2_145_042_905;

/// # Errors
/// [`ValueError::OutOfRange`] if Postgres has no such timestamp.
pub(super) fn in_range(micros: i64) -> Result<i64, ValueError> {
    if micros >= FIRST_MICROS { Ok(micros) } else { Err(ValueError::OutOfRange) }
}

/// As [`in_range`], of days since 1970.
pub(super) fn date_in_range(days: i64) -> Result<i64, ValueError> {
    if (FIRST_DAY..=LAST_DAY).contains(&days) { Ok(days) } else { Err(ValueError::OutOfRange) }
}

/// `Z`, `+02`, `+0200`, `-02:00`, or nothing.
fn offset_seconds(text: &mut Scanner<'_>) -> Option<i64> {
    if text.bytes.is_empty() {
        return Some(0);
    }
    if text.expect(b'Z').is_some() {
        return Some(0);
    }
    let _ = text.expect(b' ');
    let sign = if text.expect(b'-').is_some() {
        -1
    } else {
        text.expect(b'+')?;
        1
    };
    let hours = text.digits(2).filter(|hours| *hours <= 18)?;
    let has_minutes = text.expect(b':').is_some() || !text.bytes.is_empty();
    let minutes = if has_minutes { text.digits(2).filter(|m| *m < 60)? } else { 0 };
    Some(sign * i64::from(hours * 3600 + minutes * 60))
}

struct Scanner<'a> {
    bytes: &'a [u8],
}

impl Scanner<'_> {
    fn expect(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.bytes.split_first()?;
        (*first == byte).then(|| self.bytes = rest)
    }

    fn digits(&mut self, count: usize) -> Option<u32> {
        let (head, rest) = self.bytes.split_at_checked(count)?;
        let mut value = 0;
        for byte in head {
            value = value * 10 + u32::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        }
        self.bytes = rest;
        Some(value)
    }

    /// One to nine digits after the point, as nanoseconds.
    fn fraction(&mut self) -> Option<i64> {
        let length = self.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let (head, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        let unit = 10_i64.pow(u32::try_from(9_usize.checked_sub(length)?).ok()?);
        let value = head.iter().fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0'));
        (length > 0).then_some(value * unit)
    }
}
