//! Documents that come as bytes: which characters these are.

use std::borrow::Cow;

use crate::xml::error::{XmlError, XmlProblem};

/// The declaration of a document is at its beginning.
const MAX_DECLARATION: usize = 256;

/// The text of a document, by its byte order mark or its declaration; UTF-8 if there is neither.
///
/// # Errors
/// If the encoding is not known, or the bytes are not in it.
pub fn text_of_bytes(bytes: &[u8]) -> Result<Cow<'_, str>, XmlError> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => utf8(bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, 2, u16::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, 2, u16::from_le_bytes),
        [0, b'<', ..] => utf16(bytes, 0, u16::from_be_bytes),
        [b'<', 0, ..] => utf16(bytes, 0, u16::from_le_bytes),
        _ => match declared(bytes) {
            None => utf8(bytes),
            Some(name) => by_name(&name, bytes),
        },
    }
}

fn by_name<'a>(name: &str, bytes: &'a [u8]) -> Result<Cow<'a, str>, XmlError> {
    match name.to_ascii_uppercase().as_str() {
        "UTF-8" | "UTF8" | "US-ASCII" | "ASCII" => utf8(bytes),
        // Its bytes are the first 256 characters.
        "ISO-8859-1" | "ISO_8859-1" | "LATIN1" | "ISO8859-1" => {
            Ok(bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into())
        }
        _ => Err(XmlProblem::UnknownEncoding(name.to_owned()).at(0)),
    }
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, XmlError> {
    let text = std::str::from_utf8(bytes);
    text.map(Cow::Borrowed).map_err(|error| XmlProblem::Encoding("UTF-8").at(error.valid_up_to()))
}

fn utf16(bytes: &[u8], offset: usize, unit: fn([u8; 2]) -> u16) -> Result<Cow<'_, str>, XmlError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    let mut text = String::with_capacity(bytes.len() / 2);
    let mut at = offset;
    for c in char::decode_utf16(units) {
        let c = c.map_err(|_| XmlProblem::Encoding("UTF-16").at(at))?;
        text.push(c);
        at += 2 * c.len_utf16();
    }
    if !rest.is_empty() {
        return Err(XmlProblem::Encoding("UTF-16").at(at));
    }
    Ok(text.into())
}

/// What stands behind `encoding=` in `<?xml ... ?>`.
fn declared(bytes: &[u8]) -> Option<String> {
    let start = &bytes[..bytes.len().min(MAX_DECLARATION)];
    let text = start.strip_prefix(b"<?xml")?;
    let end = text.windows(2).position(|pair| pair == b"?>")?;
    let text = std::str::from_utf8(&text[..end]).ok()?;
    let (_, rest) = text.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest[1..].split(quote).next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "<a>Grüße</a>";

    fn utf16_of(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn a_mark_or_a_declaration_says_which_characters_bytes_are() {
        let declared =
            |encoding: &str| format!("<?xml version='1.0' encoding=\"{encoding}\"?>{TEXT}");
        let latin = declared("iso-8859-1").chars().map(|c| c as u8).collect::<Vec<u8>>();
        assert_eq!(text_of_bytes(&latin).unwrap(), declared("iso-8859-1"));
        assert_eq!(text_of_bytes(TEXT.as_bytes()).unwrap(), TEXT);
        assert_eq!(text_of_bytes(declared("UTF-8").as_bytes()).unwrap(), declared("UTF-8"));
        for bytes in [u16::to_be_bytes, u16::to_le_bytes] {
            assert_eq!(text_of_bytes(&utf16_of(TEXT, bytes)).unwrap(), TEXT);
            let marked = utf16_of(&format!("\u{feff}{TEXT}😀"), bytes);
            assert_eq!(text_of_bytes(&marked).unwrap(), format!("{TEXT}😀"));
        }
    }

    #[test]
    fn bytes_that_are_not_in_their_encoding_are_refused_with_their_place() {
        let message = |bytes: &[u8]| text_of_bytes(bytes).unwrap_err().to_string();
        assert_eq!(message(b"<a>\xff</a>"), "at byte 3: the bytes are no text in UTF-8");
        assert_eq!(message(b"\xfe\xff\0<\xd8\0\0a"), "at byte 4: the bytes are no text in UTF-16");
        assert_eq!(message(b"\xff\xfe<\0a"), "at byte 4: the bytes are no text in UTF-16");
        let error = message(b"<?xml version='1.0' encoding='EBCDIC'?><a/>");
        assert!(error.contains("the encoding EBCDIC is not one of"), "{error}");
    }
}
