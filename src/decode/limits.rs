//! How large and how deep an event may be.

use std::num::NonZeroUsize;

use serde::Deserialize;

use crate::xml;

/// Bytes of text that one column of a batch can hold: Arrow's offsets are 32 bits.
pub(super) const MAX_EPOCH_BYTES: usize = i32::MAX as usize;

/// The `[limits]` section. An event beyond one of them is a dead letter that names it; the others go on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of an event's payload. Default: 16 MiB. Beyond it: `EVENT_TOO_LARGE`.
    pub max_event_bytes: NonZeroUsize,
    /// Columns of one table that are kept without being declared, over all events that were ever seen.
    /// Default: 1000. Beyond it: `TOO_MANY_COLUMNS`.
    pub max_undeclared_columns: NonZeroUsize,
    /// Tables that are registered because no file declares them (`decode.unknown_tables`). Default: 100. Beyond
    /// it: `TOO_MANY_TABLES`.
    pub max_registered_tables: NonZeroUsize,
    /// Bytes of one row's undeclared columns. Default: 1 MiB. Beyond it: `UNDECLARED_TOO_LARGE`.
    pub max_undeclared_bytes: NonZeroUsize,
    /// Objects and arrays inside each other in an undeclared column. Default: 100. Beyond it:
    /// `TOO_DEEP`. PostgreSQL's own limit is some thousands.
    pub max_depth: NonZeroUsize,
    /// Bytes of a document that rows are extracted from. Default: 16 MiB. Beyond this one and the next three:
    /// `MALFORMED_XML`, or what `malformed_xml` says.
    pub max_xml_bytes: NonZeroUsize,
    /// Elements inside each other. Default: 100.
    pub max_xml_depth: NonZeroUsize,
    /// Rows of one kind in one document. Default: 100,000.
    pub max_xml_rows: NonZeroUsize,
    /// Bytes of one value. Default: 1 MiB.
    pub max_xml_value_bytes: NonZeroUsize,
}

impl Default for Limits {
    fn default() -> Self {
        let count = |count| NonZeroUsize::new(count).expect("is not 0");
        let xml = xml::XmlLimits::default();
        Self {
            max_event_bytes: count(16 << 20),
            max_undeclared_columns: count(1000),
            max_registered_tables: count(100),
            max_undeclared_bytes: count(1 << 20),
            max_depth: count(100),
            max_xml_bytes: count(xml.bytes),
            max_xml_depth: count(xml.depth),
            max_xml_rows: count(xml.rows),
            max_xml_value_bytes: count(xml.value_bytes),
        }
    }
}

impl Limits {
    /// Those of documents.
    pub fn xml(&self) -> xml::XmlLimits {
        xml::XmlLimits {
            bytes: self.max_xml_bytes.get(),
            depth: self.max_xml_depth.get(),
            rows: self.max_xml_rows.get(),
            value_bytes: self.max_xml_value_bytes.get(),
        }
    }
}
