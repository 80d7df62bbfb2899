//! One pass over the text of a document.

mod attributes;
mod encoding;
mod input;
mod scan;
mod scan_state;
mod text;

pub use encoding::text_of_bytes;
pub use scan::Extractor;
