//! Oracle's system change number.

use std::fmt;
use std::num::NonZeroU64;

/// Oracle's system change number: when a change was committed, or as of when a snapshot row was read.
///
/// Many changes share one, so it neither orders nor names them; all that it tells is whether a snapshot row
/// was read before a change was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scn(NonZeroU64);

impl Scn {
    /// `None` for 0, which connectors write where they know none, and for what a BIGINT can't hold.
    pub fn new(number: i64) -> Option<Self> {
        u64::try_from(number).ok().and_then(NonZeroU64::new).map(Self)
    }

    /// As events have it, in decimal digits; `None` for anything else.
    pub fn from_digits(digits: &str) -> Option<Self> {
        digits.parse().ok().and_then(Self::new)
    }

    pub fn number(self) -> i64 {
        // It came from one.
        self.0.get() as i64
    }
}

impl fmt::Display for Scn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_number_or_nothing() {
        let cases = [
            ("2208886", Some(2_208_886)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("0", None),
            ("-1", None),
            ("", None),
            ("124232:1:02002800c4050000", None),
        ];
        for (digits, expected) in cases {
            assert_eq!(Scn::from_digits(digits).map(Scn::number), expected, "{digits}");
        }
    }
}
