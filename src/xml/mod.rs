//! XML documents to rows of Arrow columns, in one pass over the text.
//!
//! A [`Shape`] says which elements are rows and where their columns are; an [`Extractor`] reads documents for
//! one or more shapes at once; [`ShapeRows`] turns what it found into typed columns. [`XmlConfig`] is the `[[xml]]`
//! section, and [`Extraction`] what becomes of it with the declaration of the source table.
//!
//! Entities are the five of XML and numeric ones. A DTD is refused, so nothing is ever expanded or fetched.
//! It knows neither events nor SQL.

mod config;
mod document;
mod error;
mod extraction;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod paths;
mod shape_rows;
mod value;

#[cfg(test)]
mod tests;

pub use config::{ColumnConfig, Malformed, MissingValue, ParentKey, XmlConfig};
pub use document::{Extractor, text_of_bytes};
pub use error::{XmlError, XmlLimits};
pub use extraction::{Extraction, resolve};
pub(crate) use extraction::{is_column, problems};
pub use paths::{Shape, ShapeColumn};
pub use shape_rows::{AppendedRows, ShapeRows};
