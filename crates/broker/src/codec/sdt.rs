//! The one thing the broker reads inside a message: the partition key among the user properties.
//!
//! Malformed metadata means "no key", because the body is the clients' affair.

const KEY_PROPERTY: &[u8] = b"JMSXGroupID\0";
const KIND_BINARY_METADATA: u8 = 4;
const TYPE_STRING: u8 = 7;
const TYPE_MAP: u8 = 10;
const TYPE_STREAM: u8 = 11;

/// Finds the value of the `JMSXGroupID` user property.
///
/// Shape: `summary` is the content summary parameter: the kinds and sizes of the body's parts.
pub(crate) fn partition_key<'a>(summary: &[u8], body: &'a [u8]) -> Option<&'a [u8]> {
    let metadata = metadata_part(summary, body)?;
    let (&blocks, rest) = metadata.split_first()?;
    let sizes = rest.get(..usize::from(blocks) * 4)?;
    let mut bodies = &rest[sizes.len()..];
    for block in sizes.chunks_exact(4) {
        let size = u32::from_be_bytes([0, block[1], block[2], block[3]]) as usize;
        let (content, after) = bodies.split_at_checked(size)?;
        if block[0] == 0
            && let Some(key) = key_in_block(content)
        {
            return Some(key);
        }
        bodies = after;
    }
    None
}

fn metadata_part<'a>(mut summary: &[u8], mut body: &'a [u8]) -> Option<&'a [u8]> {
    while let Some(first) = summary.first() {
        let (kind, length) = (first >> 4, usize::from(first & 0x0f));
        let size =
            summary.get(1..length)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (part, rest) = body.split_at_checked(size)?;
        if kind == KIND_BINARY_METADATA {
            return Some(part);
        }
        (summary, body) = (summary.get(length.max(1)..)?, rest);
    }
    None
}

/// A block is a stream of the preamble and a map whose entry "p" is the map of user properties.
fn key_in_block(block: &[u8]) -> Option<&[u8]> {
    let (TYPE_STREAM, mut items, _) = item(block)? else { return None };
    while !items.is_empty() {
        let (kind, value, rest) = item(items)?;
        if kind == TYPE_MAP
            && let Some((TYPE_MAP, properties)) = lookup(value, b"p\0")
            && let Some((TYPE_STRING, key)) = lookup(properties, KEY_PROPERTY)
        {
            return key.strip_suffix(b"\0");
        }
        items = rest;
    }
    None
}

fn lookup<'a>(mut map: &'a [u8], wanted: &[u8]) -> Option<(u8, &'a [u8])> {
    while !map.is_empty() {
        let (_, key, rest) = item(map)?;
        let (kind, value, rest) = item(rest)?;
        if key == wanted {
            return Some((kind, value));
        }
        map = rest;
    }
    None
}

/// Splits off one item: its type, its value and what follows it.
fn item(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let first = *bytes.first()?;
    let prefix = 2 + usize::from(first & 0x03);
    let length = bytes.get(1..prefix)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let value = bytes.get(prefix..length)?;
    Some((first >> 2, value, &bytes[length..]))
}
