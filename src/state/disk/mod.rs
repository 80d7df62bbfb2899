//! The folder and the embedded store that hold what is not in memory.

mod engine;
mod error;
mod folder;
mod mark;
mod progress;

pub(in crate::state) use engine::{Engine, INVALID, Kind, Writes};
pub use error::DiskError;
pub use folder::StateFolder;
pub(in crate::state) use mark::{Mark, TableMark, newest_record};
pub(in crate::state) use progress::{Durable, Flush};
