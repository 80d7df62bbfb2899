//! Events and rows that could not be processed, what is asked for to process them again, and what became of that.

mod dead_letter;
mod replay;
mod result_letter;
mod row_text;
mod status;

pub use dead_letter::{DeadLetter, ErrorType, Phase};
pub use replay::{
    Mending, RefusedRequest, RefusedResultRow, ReplayOutcome, ReplayRequest, Replayed, Resent,
    RowLetter,
};
pub use result_letter::{LeftOutReason, LeftOutRows, ResultLetter};
pub use row_text::{cell_text, row_json, rows_of, texts_of};
pub use status::LetterStatus;
