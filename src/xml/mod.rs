//! XML documents to rows of Arrow columns, in one pass over the text.
//!
//! A [`Shape`] says which elements are rows and where their columns are; an [`Extractor`] reads documents for
//! one or more shapes at once; [`Cells`] turns what it found into typed columns. [`XmlConfig`] is the `[[xml]]`
//! section, and [`Extraction`] what becomes of it with the declaration of the source table.
//!
//! Entities are the five of XML and numeric ones. A DTD is refused, so nothing is ever expanded or fetched.
//! It knows neither events nor SQL.

mod attributes;
mod cells;
mod config;
mod encoding;
mod error;
mod extraction;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod matching;
mod path;
mod scan;
mod shape;
mod text;
mod value;

#[cfg(test)]
mod tests;

pub use cells::Cells;
pub use config::{ColumnConfig, Malformed, Missing, ParentKey, XmlConfig};
pub use encoding::text_of_bytes;
pub use error::{Limits, XmlError};
pub use extraction::{Extraction, resolve};
pub(crate) use extraction::{is_column, problems};
pub use scan::Extractor;
pub use shape::{Shape, ShapeColumn};
