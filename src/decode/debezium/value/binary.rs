//! Bytes from their text: base64 in two alphabets, or hexadecimal (`binary.handling.mode`).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::encoding::Semantic;
use super::error::ValueError;

/// The bytes of a text. Without being told, a text that is base64 as well as hexadecimal is neither.
pub(super) fn read(text: &str, semantic: Semantic) -> Result<Vec<u8>, ValueError> {
    let not = |expected| ValueError::Not { expected };
    match semantic {
        Semantic::Base64 => STANDARD.decode(text).map_err(|_| not("base64")),
        Semantic::Base64Url => URL_SAFE.decode(text).map_err(|_| not("base64 for URLs")),
        Semantic::Hex => hex(text).ok_or(not("hexadecimal")),
        _ => match (base64(text), hex(text)) {
            (Some(bytes), Some(same)) if bytes == same => Ok(bytes),
            (Some(_), Some(_)) => Err(ValueError::AmbiguousBinary),
            (one, other) => one.or(other).ok_or(not("base64 or hexadecimal")),
        },
    }
}

/// The alphabets differ in two characters; a text with none of them is the same in both.
fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
            _ => None,
        })
        .collect()
}
