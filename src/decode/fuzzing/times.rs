//! Dates and times: what is read is written as ISO text and read again.

use chrono::{DateTime, Days, NaiveDate, SecondsFormat};

use super::case;
use crate::decode::debezium::{ColumnKind, Encoding, Semantic, Unit, Value, convert};

const KINDS: [ColumnKind; 2] = [ColumnKind::Timestamp, ColumnKind::Date];

const ENCODINGS: [Encoding; 6] = [
    Encoding { semantic: Semantic::Unknown, is_remembered: true },
    Encoding { semantic: Semantic::Text, is_remembered: false },
    Encoding { semantic: Semantic::Instant(Unit::Days), is_remembered: false },
    Encoding { semantic: Semantic::Instant(Unit::Millis), is_remembered: true },
    Encoding { semantic: Semantic::Instant(Unit::Micros), is_remembered: false },
    Encoding { semantic: Semantic::Instant(Unit::Nanos), is_remembered: false },
];

const TEXT: Encoding = ENCODINGS[1];

/// Postgres begins at 4714-11-24 BC.
const FIRST_DAY: i64 = -2_440_588;

/// One value for a column of dates or times.
///
/// # Panics
/// If it is beyond what Postgres holds, or is another one when it is read again.
pub fn times(input: &[u8]) {
    let Some((kind, encoding, raw)) = case(input, &KINDS, &ENCODINGS) else { return };
    let value = convert(raw, kind, encoding);
    let Ok(Value::Int(count)) = value else {
        assert!(matches!(value, Ok(Value::Null) | Err(_)), "{raw}: {value:?}");
        return;
    };
    let text = match kind {
        ColumnKind::Date => iso_date(count),
        _ => iso_time(count),
    };
    // The calendar ends before Postgres's does.
    let Some(text) = text else { return };
    assert_eq!(convert(&format!("\"{text}\""), kind, TEXT), value, "{raw} as {text}");
}

fn iso_date(days: i64) -> Option<String> {
    assert!(days >= FIRST_DAY, "{days}");
    let (epoch, distance) = (NaiveDate::default(), Days::new(days.unsigned_abs()));
    let date = match days < 0 {
        true => epoch.checked_sub_days(distance),
        false => epoch.checked_add_days(distance),
    };
    date.map(|date| date.to_string())
}

fn iso_time(micros: i64) -> Option<String> {
    assert!(micros.div_euclid(86_400_000_000) >= FIRST_DAY, "{micros}");
    let time = DateTime::from_timestamp_micros(micros)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}
