//! Character data: entities, line ends, and characters that XML does not have.

use crate::xml::error::{XmlError, XmlProblem};

/// The character that `&name;` stands for.
///
/// # Errors
/// If it is none of the five, and no number of a character.
pub(super) fn entity(name: &str) -> Result<char, XmlProblem> {
    match name {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ => match name.strip_prefix('#') {
            Some(number) => numbered(number)
                .ok_or_else(|| XmlProblem::CharacterReference(name.chars().take(40).collect())),
            None => Err(XmlProblem::Entity(name.chars().take(40).collect())),
        },
    }
}

fn numbered(number: &str) -> Option<char> {
    let (digits, radix) = match number.strip_prefix('x') {
        Some(hexadecimal) => (hexadecimal, 16),
        None => (number, 10),
    };
    // A sign is for numbers, not for characters.
    let code = u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))?;
    char::from_u32(code).filter(|c| is_allowed(*c))
}

/// Source: XML 1.0, production 2.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// Appends text that starts at byte `at` of the document, with line ends as XML has them.
///
/// # Errors
/// If a character is not allowed.
pub(super) fn push_text(raw: &str, at: usize, out: &mut String) -> Result<(), XmlError> {
    if raw.bytes().all(|byte| byte >= b' ' && byte != 0xef) {
        out.push_str(raw);
        return Ok(());
    }
    let mut characters = raw.char_indices().peekable();
    while let Some((offset, c)) = characters.next() {
        match c {
            '\r' => {
                if characters.peek().is_none_or(|(_, next)| *next != '\n') {
                    out.push('\n');
                }
            }
            c if is_allowed(c) => out.push(c),
            c => return Err(XmlProblem::Character(c.into()).at(at + offset)),
        }
    }
    Ok(())
}

/// Appends the value of an attribute that starts at byte `at` of the document.
///
/// # Errors
/// If an entity is not known, or a character not allowed.
pub(super) fn push_attribute(raw: &str, at: usize, out: &mut String) -> Result<(), XmlError> {
    let mut rest = raw;
    loop {
        let here = at + (raw.len() - rest.len());
        let end = rest.find('&').unwrap_or(rest.len());
        push_spaced(&rest[..end], here, out)?;
        let Some(name) = rest[end..].strip_prefix('&') else { return Ok(()) };
        let Some((name, after)) = name.split_once(';') else {
            return Err(XmlProblem::syntax("an '&' without its ';'").at(here + end));
        };
        out.push(entity(name).map_err(|problem| problem.at(here + end))?);
        rest = after;
    }
}

/// Line ends and tabs are spaces in an attribute.
fn push_spaced(raw: &str, at: usize, out: &mut String) -> Result<(), XmlError> {
    if raw.bytes().all(|byte| byte >= b' ' && byte != 0xef) {
        out.push_str(raw);
        return Ok(());
    }
    let start = out.len();
    push_text(raw, at, out)?;
    if out[start..].contains(['\n', '\t']) {
        let spaced = out[start..].replace(['\n', '\t'], " ");
        out.truncate(start);
        out.push_str(&spaced);
    }
    Ok(())
}

/// Checks the references of text that nobody wants.
///
/// # Errors
/// As [`push_attribute`].
pub(super) fn check_attribute(raw: &str, at: usize) -> Result<(), XmlError> {
    if raw.contains('&') {
        push_attribute(raw, at, &mut String::new())?;
    }
    Ok(())
}
