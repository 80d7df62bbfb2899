//! Why a document is refused, and how large one may be.

/// How large a document and what is found in it may be. The names in messages are those of the `[limits]` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XmlLimits {
    pub bytes: usize,
    pub depth: usize,
    pub rows: usize,
    pub value_bytes: usize,
}

impl Default for XmlLimits {
    fn default() -> Self {
        Self { bytes: 16 << 20, depth: 100, rows: 100_000, value_bytes: 1 << 20 }
    }
}

/// A document that can't be read, or must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {problem}")]
pub struct XmlError {
    /// How many bytes of the document come before the place; in UTF-8, unless the document came as bytes.
    pub at: usize,
    pub problem: XmlProblem,
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlProblem {
    #[error("{0}")]
    Syntax(String),
    #[error("a DTD is not allowed, because entities could be declared in it")]
    Dtd,
    #[error("the entity &{0}; is not one of the five of XML, and no others are known")]
    Entity(String),
    #[error("&{0}; is no character of XML")]
    CharacterReference(String),
    #[error("the character U+{0:04X} is not allowed in XML")]
    Character(u32),
    #[error("the bytes are no text in {0}")]
    Encoding(&'static str),
    #[error("the encoding {0} is not one of UTF-8, UTF-16, US-ASCII and ISO-8859-1")]
    UnknownEncoding(String),
    #[error("the document has {bytes} bytes, which is above limits.max_xml_bytes ({limit})")]
    TooLarge { bytes: usize, limit: usize },
    #[error("elements are nested deeper than limits.max_xml_depth ({0})")]
    TooDeep(usize),
    #[error("there are more rows than limits.max_xml_rows ({0})")]
    TooManyRows(usize),
    #[error("a value has more bytes than limits.max_xml_value_bytes ({0})")]
    ValueTooLarge(usize),
    #[error("an element has more than {0} attributes")]
    TooManyAttributes(usize),
    #[error(
        "the values of its rows would take more than {0} times the document: a path repeats a long value in many rows"
    )]
    TooMuchRepetition(usize),
}

impl XmlProblem {
    pub(in crate::xml) fn at(self, at: usize) -> XmlError {
        XmlError { at, problem: self }
    }

    pub(in crate::xml) fn syntax(text: impl Into<String>) -> Self {
        Self::Syntax(text.into())
    }
}
