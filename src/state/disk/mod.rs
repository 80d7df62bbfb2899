//! The folder and the embedded store that hold what is not in memory.

mod engine;
mod error;
mod folder;
mod mark;
mod progress;
mod space;

pub(in crate::state) use engine::{Engine, Kind, Number, Writes};
pub use error::DiskError;
pub use folder::StateFolder;
pub(in crate::state) use mark::{Mark, TableMark};
pub(in crate::state) use progress::{Durable, Flush, Flushed};
pub(in crate::state) use space::DiskSpace;
