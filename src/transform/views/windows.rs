//! The windows that a query makes with `date_bin` and `date_trunc`.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::scalar::ScalarValue;

use crate::model::Window;

const DAY: i64 = 86_400_000_000;
const LONGEST_MONTH: i64 = 31 * DAY;
/// The first Monday after 1970-01-01, which was a Thursday.
const MONDAY: i64 = 4 * DAY;

/// The windows that a call makes whose first argument is a constant.
pub(crate) fn window(call: &ScalarFunction) -> Option<Window> {
    let Some(Expr::Literal(first, _)) = call.args.first() else { return None };
    let third = call.args.get(2);
    let window = match call.func.name() {
        "date_bin" => {
            let (length, is_calendar) = interval(first)?;
            Window { length, origin: third.map_or(Some(0), origin).filter(|_| !is_calendar) }
        }
        "date_trunc" => calendar_unit(first.try_as_str().flatten()?)?,
        _ => return None,
    };
    (window.length > 0).then_some(window)
}

/// Microseconds, at least as long as any window of this interval; and whether it has months.
fn interval(literal: &ScalarValue) -> Option<(i64, bool)> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = literal else { return None };
    let (months, days) = (i64::from(interval.months), i64::from(interval.days));
    Some((months * LONGEST_MONTH + days * DAY + interval.nanoseconds / 1000, months != 0))
}

/// Microseconds of a constant time; `None` if it is not constant.
fn origin(expr: &Expr) -> Option<i64> {
    let Expr::Literal(literal, _) = expr else { return None };
    let micros = literal.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None)).ok()?;
    let ScalarValue::TimestampMicrosecond(origin, _) = micros else { return None };
    origin
}

/// The windows of the units of `date_trunc`.
fn calendar_unit(name: &str) -> Option<Window> {
    let (length, origin) = match name.to_lowercase().as_str() {
        "second" => (1_000_000, Some(0)),
        "minute" => (60_000_000, Some(0)),
        "hour" => (3_600_000_000, Some(0)),
        "day" => (DAY, Some(0)),
        "week" => (7 * DAY, Some(MONDAY)),
        "month" => (LONGEST_MONTH, None),
        "quarter" => (92 * DAY, None),
        "year" => (366 * DAY, None),
        _ => return None,
    };
    Some(Window { length, origin })
}
