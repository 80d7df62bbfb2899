//! Rates such as `5000/min`.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// How fast events are made: `5000/min`, `100/s` or `max`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub enum Rate {
    PerSecond(f64),
    /// As fast as the broker takes them.
    Max,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{text}' is no rate such as 5000/min, 100/s or max")]
pub struct RateError {
    text: String,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || RateError { text: text.to_owned() };
        if text == "max" {
            return Ok(Self::Max);
        }
        let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "s" | "sec" => 1.0,
            "min" | "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let is_usable = number.is_finite() && number > 0.0;
        if is_usable { Ok(Self::PerSecond(number / seconds)) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Rate {
    /// How many events should exist after this time; `None` without a limit.
    pub(super) fn due_after(self, elapsed: Duration) -> Option<u64> {
        match self {
            Self::PerSecond(rate) => Some((rate * elapsed.as_secs_f64()) as u64),
            Self::Max => None,
        }
    }

    /// Microseconds between two events of a simulated clock.
    pub(super) fn step_us(self) -> i64 {
        match self {
            Self::PerSecond(rate) => ((1e6 / rate) as i64).max(1),
            Self::Max => 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_per_second_minute_and_hour() {
        assert_eq!("100/s".parse(), Ok(Rate::PerSecond(100.0)));
        assert_eq!("6000/min".parse(), Ok(Rate::PerSecond(100.0)));
        assert_eq!("3600/h".parse(), Ok(Rate::PerSecond(1.0)));
        assert_eq!("max".parse(), Ok(Rate::Max));
    }

    #[test]
    fn what_is_no_rate_is_named() {
        for text in ["", "5000", "0/s", "-1/s", "x/s", "5/fortnight", "NaN/s"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn due_events_follow_the_clock() {
        let rate = Rate::PerSecond(100.0);
        assert_eq!(rate.due_after(Duration::from_millis(250)), Some(25));
        assert_eq!(Rate::Max.due_after(Duration::from_secs(9)), None);
    }
}
