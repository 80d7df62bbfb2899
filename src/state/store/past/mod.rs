//! What a table remembers of rows that it does not have any more.

mod deleted_row;
mod epoch_undo;

pub(super) use deleted_row::{DeletedRow, RememberedDelete};
pub(super) use epoch_undo::{EpochUndo, UndoStep};
