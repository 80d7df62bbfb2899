//! Postgres's binary NUMERIC from and to an unscaled integer and a scale.
//!
//! Source: `numeric_send` and `numeric_recv` in PostgreSQL's `src/backend/utils/adt/numeric.c`:
//! number of base-10000 digits, weight of the first one, sign, display scale, digits.

use bytes::{BufMut, BytesMut};

const NEGATIVE: u16 = 0x4000;
const POSITIVE: u16 = 0;
/// Base-10000 digits that an i128 (39 decimal digits, shifted by up to 3) can need.
const MAX_DIGITS: usize = 11;

/// Appends `value * 10^-scale`, without a length in front.
pub(crate) fn encode(value: i128, scale: i8, out: &mut BytesMut) {
    let (digits, used, mut weight) = base_10000(value.unsigned_abs(), scale);
    let mut digits = &digits[MAX_DIGITS - used..];
    while let [0, rest @ ..] = digits {
        digits = rest;
        weight -= 1;
    }
    while let [rest @ .., 0] = digits {
        digits = rest;
    }
    if digits.is_empty() {
        weight = 0;
    }
    out.put_u16(digits.len() as u16);
    out.put_i16(weight);
    out.put_u16(if value < 0 { NEGATIVE } else { POSITIVE });
    out.put_u16(scale.max(0) as u16);
    for digit in digits {
        out.put_u16(*digit);
    }
}

/// The digits, right-aligned in their array, how many there are, and the weight of the first.
fn base_10000(mut rest: u128, scale: i8) -> ([u16; MAX_DIGITS], usize, i16) {
    // Digits are groups of four counted from the decimal point: the last group is filled with zeros
    // up to a multiple of four places, or shortened by whole groups for a negative scale.
    let places = i32::from(scale);
    let groups_after_point = (places + 3).div_euclid(4);
    let filler = groups_after_point * 4 - places;
    let mut digits = [0u16; MAX_DIGITS];
    let mut used = 0;
    let mut push = |digit: u128| {
        used += 1;
        digits[MAX_DIGITS - used] = digit as u16;
    };
    if filler > 0 && rest > 0 {
        let head = 10u128.pow(4 - filler as u32);
        push((rest % head) * 10u128.pow(filler as u32));
        rest /= head;
    }
    while rest > 0 {
        push(rest % 10_000);
        rest /= 10_000;
    }
    (digits, used, (used as i32 - 1 - groups_after_point) as i16)
}

/// The unscaled value at `scale`; `None` if it is no number, does not fit, or has more places.
pub(crate) fn decode(raw: &[u8], scale: i8) -> Option<i128> {
    let word = |at: usize| Some(u16::from_be_bytes(raw.get(at * 2..at * 2 + 2)?.try_into().ok()?));
    let (count, weight, sign) = (word(0)?, word(1)? as i16, word(2)?);
    if sign != POSITIVE && sign != NEGATIVE {
        return None;
    }
    let mut value: i128 = 0;
    for index in 0..count {
        let digit = i128::from(word(4 + usize::from(index))?);
        // Decimal places between this digit's last one and the wanted last one.
        let exponent = (i32::from(weight) - i32::from(index)) * 4 + i32::from(scale);
        let part = if exponent >= 0 {
            digit.checked_mul(10i128.checked_pow(exponent.unsigned_abs())?)?
        } else {
            let divisor = 10i128.checked_pow(exponent.unsigned_abs()).filter(|d| *d <= 10_000)?;
            (digit % divisor == 0).then_some(digit / divisor)?
        };
        value = value.checked_add(part)?;
    }
    Some(if sign == NEGATIVE { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(value: i128, scale: i8) -> Vec<u8> {
        let mut out = BytesMut::new();
        encode(value, scale, &mut out);
        out.to_vec()
    }

    #[test]
    fn known_values_have_postgres_bytes() {
        assert_eq!(bytes_of(0, 2), [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(bytes_of(1, 0), [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        // -12345.67 = 1 | 2345 | 6700
        let expected = [0, 3, 0, 1, 0x40, 0, 0, 2, 0, 1, 9, 41, 26, 44];
        assert_eq!(bytes_of(-1_234_567, 2), expected);
        // 0.0001: one digit of weight -1
        assert_eq!(bytes_of(1, 4), [0, 1, 255, 255, 0, 0, 0, 4, 0, 1]);
        assert_eq!(bytes_of(10_000, 0), [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn decodes_to_what_was_encoded(value in any::<i128>(), scale in -10i8..=38) {
            prop_assume!(value != i128::MIN);
            prop_assert_eq!(decode(&bytes_of(value, scale), scale), Some(value));
        }
    }

    #[test]
    fn places_beyond_the_scale_are_not_cut_off() {
        assert_eq!(decode(&bytes_of(125, 2), 1), None);
        assert_eq!(decode(&bytes_of(120, 2), 1), Some(12));
        assert_eq!(decode(&bytes_of(i128::MAX, 0), 1), None);
    }
}
