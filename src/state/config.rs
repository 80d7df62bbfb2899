//! The `[state]` section.

use std::path::PathBuf;

use bytesize::ByteSize;
use serde::Deserialize;

use super::memory::default_limit;

/// The `[state]` section: where rows are that results need.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// How much the rows in memory and what is kept for results may take, as in `"4GiB"`. Beyond it rows go to the
    /// disk, the first to have come first. Default: half of the memory of the container or machine.
    pub memory: Option<ByteSize>,
    /// The folder of the state: on local disk, and of this process alone. A restart goes on from it. Default: one in the
    /// folder for temporary files, which goes with the process.
    pub path: Option<PathBuf>,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { memory: default_limit(), path: None }
    }
}
