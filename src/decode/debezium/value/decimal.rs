//! Decimal numbers from their text or bytes, digit by digit: no binary float is ever in between.

use arrow::datatypes::i256;

use super::error::ValueError;

/// More significant digits than any declared type can hold.
const MAX_DIGITS: u32 = 38;

/// More places than any number of Oracle has, before the point or after it.
const MAX_SCALE: i32 = 200;

/// `mantissa` / 10^`scale`, without rounding. The mantissa has no more than 38 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exact {
    mantissa: i128,
    scale: i64,
}

impl Exact {
    /// Reads `-1500.00`, `1.5E+3`, `.5`: the number text of JSON, and what Oracle prints.
    ///
    /// # Errors
    /// [`ValueError::Not`] if it is no number, [`ValueError::OutOfRange`] if it has more than 38
    /// significant digits.
    pub(super) fn parse(text: &str) -> Result<Self, ValueError> {
        let not_a_number = ValueError::Not { expected: "a number" };
        let bytes = text.as_bytes();
        let (negative, unsigned) = match bytes.first() {
            Some(b'-') => (true, &bytes[1..]),
            Some(b'+') => (false, &bytes[1..]),
            _ => (false, bytes),
        };
        let digits = Digits::scan(unsigned);
        let exponent = match unsigned.get(digits.length) {
            None => 0,
            Some(b'e' | b'E') => {
                exponent(&unsigned[digits.length + 1..]).ok_or(not_a_number.clone())?
            }
            Some(_) => return Err(not_a_number),
        };
        if !digits.any {
            return Err(not_a_number);
        }
        if digits.significant > MAX_DIGITS {
            return Err(ValueError::OutOfRange);
        }
        let mantissa = if negative { -digits.mantissa } else { digits.mantissa };
        let scale = (digits.fraction - digits.zeros).saturating_sub(exponent);
        Ok(Self { mantissa, scale })
    }

    /// Big-endian two's complement, as Java's `BigInteger` writes it; no bytes are no number.
    pub(super) fn from_be_bytes(bytes: &[u8], scale: i64) -> Result<Self, ValueError> {
        let first = *bytes.first().ok_or(ValueError::Not { expected: "a number" })?;
        let fill = if first & 0x80 == 0 { 0x00 } else { 0xff };
        let mut wide = [fill; 32];
        let start = wide.len().checked_sub(bytes.len()).ok_or(ValueError::OutOfRange)?;
        wide[start..].copy_from_slice(bytes);
        if bytes.len() <= 16 {
            let mut narrow = [0; 16];
            narrow.copy_from_slice(&wide[16..]);
            return Ok(Self { mantissa: i128::from_be_bytes(narrow), scale });
        }
        Self::from_wide(i256::from_be_bytes(wide), scale)
    }

    /// A mantissa beyond 128 bits still fits if it ends in zeros.
    fn from_wide(mut mantissa: i256, mut scale: i64) -> Result<Self, ValueError> {
        let ten = i256::from_i128(10);
        loop {
            if let Some(mantissa) = mantissa.to_i128() {
                return Ok(Self { mantissa, scale });
            }
            if mantissa.wrapping_rem(ten) != i256::ZERO {
                return Err(ValueError::OutOfRange);
            }
            mantissa = mantissa.wrapping_div(ten);
            scale = scale.saturating_sub(1);
        }
    }

    /// The unscaled value with `scale` fractional digits; negative for powers of ten.
    ///
    /// # Errors
    /// [`ValueError::Inexact`] if digits would be lost, [`ValueError::OutOfRange`] if it is too big.
    pub(super) fn at_scale(self, scale: i64) -> Result<i128, ValueError> {
        if self.mantissa == 0 {
            return Ok(0);
        }
        let shift = scale.saturating_sub(self.scale);
        let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|s| 10_i128.checked_pow(s));
        if shift >= 0 {
            return power
                .and_then(|power| self.mantissa.checked_mul(power))
                .ok_or(ValueError::OutOfRange);
        }
        match power {
            Some(power) if self.mantissa % power == 0 => Ok(self.mantissa / power),
            _ => Err(ValueError::Inexact),
        }
    }

    /// The unscaled value of a `DECIMAL(precision, scale)`.
    pub(super) fn at_precision(self, precision: u8, scale: i8) -> Result<i128, ValueError> {
        let unscaled = self.at_scale(i64::from(scale))?;
        let limit = 10_u128.pow(u32::from(precision).min(MAX_DIGITS));
        if unscaled.unsigned_abs() < limit { Ok(unscaled) } else { Err(ValueError::OutOfRange) }
    }

    /// All digits, with as many places after the point as the scale says.
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`] if these are more than any number of Oracle has.
    pub(super) fn digits(self) -> Result<String, ValueError> {
        let scale = i32::try_from(self.scale).ok().filter(|scale| scale.abs() <= MAX_SCALE);
        let scale = scale.ok_or(ValueError::OutOfRange)?;
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let mantissa = self.mantissa.unsigned_abs().to_string();
        let places = scale.max(0) as usize;
        if scale <= 0 {
            let zeros = if self.mantissa == 0 { 0 } else { scale.unsigned_abs() as usize };
            return Ok(format!("{sign}{mantissa}{}", "0".repeat(zeros)));
        }
        let padded = format!("{mantissa:0>width$}", width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        Ok(format!("{sign}{whole}.{fraction}"))
    }

    /// The nearest float: for columns that are declared as one.
    pub(super) fn to_f64(self) -> Option<f64> {
        let text = format!("{}e{}", self.mantissa, self.scale.saturating_neg());
        text.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// The part of a number before its exponent.
#[derive(Default)]
struct Digits {
    any: bool,
    /// Without leading and trailing zeros.
    mantissa: i128,
    significant: u32,
    /// Trailing zeros, which the mantissa leaves out.
    zeros: i64,
    /// How many digits stand after the point.
    fraction: i64,
    /// Bytes that were read.
    length: usize,
}

impl Digits {
    fn scan(bytes: &[u8]) -> Self {
        let mut digits = Self::default();
        let mut point = false;
        for byte in bytes {
            match byte {
                b'.' if !point => point = true,
                b'0'..=b'9' => {
                    digits.push(byte - b'0');
                    digits.fraction += i64::from(point);
                }
                _ => break,
            }
            digits.length += 1;
        }
        digits
    }

    fn push(&mut self, digit: u8) {
        self.any = true;
        if digit == 0 {
            self.zeros += i64::from(self.significant > 0);
            return;
        }
        let gap = u32::try_from(self.zeros).unwrap_or(MAX_DIGITS).saturating_add(1);
        self.significant = self.significant.saturating_add(gap);
        if self.significant <= MAX_DIGITS {
            self.mantissa = self.mantissa * 10_i128.pow(gap) + i128::from(digit);
        }
        self.zeros = 0;
    }
}

/// Saturates: a mantissa of zero is zero whatever the exponent, all others do not fit anyway.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: i64, digit: &u8| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    let value = digits.iter().fold(0, add);
    Some(if negative { -value } else { value })
}
