//! What the API does wrong on purpose.

use rand::RngExt;
use serde::{Deserialize, Serialize};

/// What goes wrong, in per cent of the requests. All of it together is at most 100.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Answered with 503.
    pub unavailable_percent: u8,
    /// Answered with 429 and `Retry-After`.
    pub too_many_percent: u8,
    /// Answered with 400.
    pub refuse_percent: u8,
    /// The connection is closed without an answer: before the row is taken, or after it.
    pub drop_percent: u8,
    /// Seconds or a date. Default `1`.
    pub retry_after: String,
    /// Every answer takes at least so long.
    pub slow_ms: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            unavailable_percent: 0,
            too_many_percent: 0,
            refuse_percent: 0,
            drop_percent: 0,
            retry_after: "1".to_owned(),
            slow_ms: 0,
        }
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    Unavailable,
    TooMany,
    Refuse,
    CutBefore,
    CutAfter,
}

impl Faults {
    pub(super) fn problem(&self) -> Option<&'static str> {
        let percents = [
            self.unavailable_percent,
            self.too_many_percent,
            self.refuse_percent,
            self.drop_percent,
        ];
        if percents.iter().map(|percent| u32::from(*percent)).sum::<u32>() > 100 {
            return Some("the percentages are more than 100 together");
        }
        if self.retry_after.parse::<axum::http::HeaderValue>().is_err() {
            return Some("retry_after has characters that a header can't hold");
        }
        None
    }

    /// By chance, in the given proportions.
    pub(super) fn verdict(&self) -> Verdict {
        let cut = if rand::rng().random_bool(0.5) { Verdict::CutBefore } else { Verdict::CutAfter };
        let mut chance = rand::rng().random_range(0..100_u8);
        for (percent, verdict) in [
            (self.unavailable_percent, Verdict::Unavailable),
            (self.too_many_percent, Verdict::TooMany),
            (self.refuse_percent, Verdict::Refuse),
            (self.drop_percent, cut),
        ] {
            match chance.checked_sub(percent) {
                Some(rest) => chance = rest,
                None => return verdict,
            }
        }
        Verdict::Take
    }
}
