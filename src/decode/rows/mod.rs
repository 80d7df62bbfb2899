//! From a change event to rows in Arrow: which field is which column, the rows before and after,
//! what no column declares, and documents in columns.

mod documents;
mod event_origin;
mod evidence;
mod extra_fields;
mod extracted_rows;
mod route;
mod row_images;
mod table_rows;

pub use documents::KeptDocuments;
pub(super) use documents::{Documents, ExtractedTables};
pub(super) use event_origin::EventOrigin;
pub use evidence::Evidence;
pub use extracted_rows::UnreadParts;
pub(super) use route::Route;
pub(super) use row_images::{Scratch, no_row};
pub(super) use table_rows::TableRows;
