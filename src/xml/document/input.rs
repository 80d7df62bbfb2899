//! What a pass reads: the document, and what is looked for in it.

use std::ops::Range;

use crate::xml::error::XmlLimits;
use crate::xml::paths::Program;

/// A document while it is read.
#[derive(Clone, Copy)]
pub(super) struct ScanInput<'a> {
    pub(super) document: &'a str,
    pub(super) program: &'a Program,
    /// How large what is found may be.
    pub(super) limits: &'a XmlLimits,
}

/// A start tag, as ranges of the document.
#[derive(Debug, Clone)]
pub(super) struct Tag {
    pub(super) name: Range<usize>,
    pub(super) attributes: Range<usize>,
}
