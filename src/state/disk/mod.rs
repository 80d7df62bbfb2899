//! The folder and the embedded store that hold what is not in memory.

mod engine;
mod error;
mod folder;

pub(in crate::state) use engine::{Engine, Kind, Writes};
pub use error::DiskError;
pub use folder::StateFolder;
