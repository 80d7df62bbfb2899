//! The id of a message in its queue, as the broker gives it.

use std::fmt;
use std::str::FromStr;

/// The position of a message in its queue: the broker's replication group message id.
///
/// Stable over redelivery, reconnects and broker restarts. Ordered within one spool, which is
/// the broker order of the queue; across spools the order says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset {
    /// The broker's spool id: another spool has other messages under the same numbers.
    pub spool: u64,
    /// The message's number within the spool.
    pub id: u64,
}

impl Offset {
    pub fn new(spool: u64, id: u64) -> Self {
        Self { spool, id }
    }
}

/// The vendor's text form, 41 characters, for instance `rmid1:12345-00000abcdef-00000000-00000001`.
///
/// Source: Solace API documentation, "Replication Group Message ID".
impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rmid1:{:05x}-{:011x}-{:08x}-{:08x}",
            self.spool >> 44,
            self.spool & ((1 << 44) - 1),
            self.id >> 32,
            self.id & 0xffff_ffff
        )
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{text}' is not a replication group message id such as rmid1:12345-00000abcdef-00000000-00000001"
)]
pub struct OffsetParseError {
    text: String,
}

impl FromStr for Offset {
    type Err = OffsetParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| OffsetParseError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Offset> {
    let mut parts = text.strip_prefix("rmid1:")?.split('-');
    let mut hex = |digits: usize| {
        let part = parts.next().filter(|p| p.len() == digits)?;
        u64::from_str_radix(part, 16).ok()
    };
    let spool = (hex(5)? << 44) | hex(11)?;
    let id = (hex(8)? << 32) | hex(8)?;
    parts.next().is_none().then_some(Offset { spool, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_the_vendors() {
        let offset = Offset::new(0x1234_5000_00ab_cdef, 1);
        assert_eq!(offset.to_string(), "rmid1:12345-00000abcdef-00000000-00000001");
        assert_eq!(offset.to_string().parse(), Ok(offset));
    }

    #[test]
    fn text_order_is_broker_order() {
        let ids = [1, 9, 10, 0xffff_ffff, 0x1_0000_0000, u64::MAX];
        let texts: Vec<String> = ids.iter().map(|id| Offset::new(7, *id).to_string()).collect();
        assert!(texts.is_sorted());
    }

    #[test]
    fn a_wrong_text_is_refused_with_the_text() {
        for text in ["", "rmid1:1-2-3-4", "rmid2:12345-00000abcdef-00000000-00000001"] {
            let error = text.parse::<Offset>().unwrap_err();
            assert!(error.to_string().contains(text));
        }
    }
}
