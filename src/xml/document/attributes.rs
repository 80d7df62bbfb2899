//! The attributes of a start tag.

use std::ops::Range;

use super::text;
use crate::xml::error::{XmlError, XmlProblem};

/// So many attributes an element may have: each is compared with all before it.
const MAX_ATTRIBUTES: usize = 256;

/// The attributes of the tag at hand, as ranges of the document. Reused between tags.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    found: Vec<Attribute>,
}

#[derive(Debug)]
struct Attribute {
    name: Range<usize>,
    value: Range<usize>,
}

impl Attributes {
    /// Reads what stands between the name of an element and the end of its tag.
    ///
    /// # Errors
    /// If it is malformed, or has one attribute twice.
    pub(super) fn read(&mut self, document: &str, inside: Range<usize>) -> Result<(), XmlError> {
        self.found.clear();
        let bytes = document.as_bytes();
        let end = inside.end;
        let mut at = inside.start;
        loop {
            let before = at;
            at = skip_space(bytes, at, end);
            if at == end {
                return Ok(());
            }
            let is_name_end =
                |byte: &u8| matches!(byte, b'=' | b'"' | b'\'' | b'<') || is_space(*byte);
            let length = bytes[at..end].iter().position(is_name_end).unwrap_or(end - at);
            let name = at..at + length;
            if name.is_empty() || before == at {
                return Err(
                    XmlProblem::syntax("an attribute without a name or a space before it").at(at)
                );
            }
            let value = value(bytes, name.end, end)?;
            at = value.end + 1;
            self.push(document, Attribute { name, value })?;
        }
    }

    fn push(&mut self, document: &str, new: Attribute) -> Result<(), XmlError> {
        let name = &document[new.name.clone()];
        if self.found.iter().any(|other| document[other.name.clone()] == *name) {
            return Err(
                XmlProblem::syntax(format!("the attribute {name} comes twice")).at(new.name.start)
            );
        }
        if self.found.len() == MAX_ATTRIBUTES {
            return Err(XmlProblem::TooManyAttributes(MAX_ATTRIBUTES).at(new.name.start));
        }
        text::check_attribute(&document[new.value.clone()], new.value.start)?;
        self.found.push(new);
        Ok(())
    }

    /// The local names of all but declarations of namespaces and what XML Schema itself has.
    pub(super) fn names<'d>(&self, document: &'d str) -> impl Iterator<Item = &'d [u8]> {
        let bytes = document.as_bytes();
        let names = self.found.iter().map(move |attribute| &bytes[attribute.name.clone()]);
        let is_own = |name: &&[u8]| {
            !["xmlns", "xsi:", "xml:"].iter().any(|prefix| name.starts_with(prefix.as_bytes()))
        };
        names.filter(is_own).map(local)
    }

    /// The place of the value of an attribute, by its local name. Declarations of namespaces are none.
    pub(super) fn get(&self, document: &str, local_name: &[u8]) -> Option<Range<usize>> {
        let bytes = document.as_bytes();
        let is_it = |attribute: &&Attribute| {
            let name = &bytes[attribute.name.clone()];
            local(name) == local_name && !name.starts_with(b"xmlns")
        };
        self.found.iter().find(is_it).map(|attribute| attribute.value.clone())
    }
}

/// From the end of a name on: `= "value"`.
fn value(bytes: &[u8], name_end: usize, end: usize) -> Result<Range<usize>, XmlError> {
    let equals = skip_space(bytes, name_end, end);
    if bytes[..end].get(equals) != Some(&b'=') {
        return Err(XmlProblem::syntax("an attribute without a value").at(equals));
    }
    let quote = skip_space(bytes, equals + 1, end);
    let start = quote + 1;
    let length = match bytes[..end].get(quote) {
        Some(mark @ (b'"' | b'\'')) => bytes[start..end].iter().position(|byte| byte == mark),
        _ => return Err(XmlProblem::syntax("the value of an attribute without quotes").at(quote)),
    };
    let length = length
        .ok_or_else(|| XmlProblem::syntax("an attribute without its last quote").at(quote))?;
    match bytes[start..start + length].iter().position(|byte| *byte == b'<') {
        Some(offset) => {
            Err(XmlProblem::syntax("a '<' in the value of an attribute").at(start + offset))
        }
        None => Ok(start..start + length),
    }
}

fn skip_space(bytes: &[u8], from: usize, end: usize) -> usize {
    let space = bytes[from..end].iter().take_while(|byte| is_space(**byte)).count();
    from + space
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A name without its prefix.
pub(super) fn local(name: &[u8]) -> &[u8] {
    let colon = name.iter().rposition(|byte| *byte == b':');
    colon.map_or(name, |at| &name[at + 1..])
}
