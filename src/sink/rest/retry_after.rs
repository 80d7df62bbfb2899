//! The `Retry-After` header, in both of its forms.
//!
//! Source: RFC 9110, section 10.2.3.

use std::time::{Duration, SystemTime};

/// No server makes us wait longer than this.
const LONGEST: Duration = Duration::from_secs(600);

/// How long to wait from `now` on; `None` if the text is neither seconds nor a date.
pub(super) fn parse(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(now).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_understood_and_bounded() {
        // 1994-11-06 08:49:37 UTC.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("999999", Some(600)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", Some(20)),
            ("Sunday, 06-Nov-94 08:49:57 GMT", Some(20)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(600)),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(parse(text, now).map(|wait| wait.as_secs()), seconds, "{text}");
        }
    }
}
