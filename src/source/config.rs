//! The `[source]` section of the configuration, by kind.

use serde::Deserialize;
use tidemark_solace::SolaceConfig;

use super::file::FileConfig;

/// The `[source]` section of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceConfig {
    Solace(Box<SolaceConfig>),
    File(FileConfig),
}

impl SourceConfig {
    /// How many messages may be delivered and not acknowledged, where that is limited.
    pub fn max_unacked(&self) -> Option<u32> {
        match self {
            Self::Solace(config) => Some(config.max_unacked),
            Self::File(_) => None,
        }
    }

    /// Everything that is wrong with it, each with its key; no I/O.
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Solace(config) => config.problems(),
            Self::File(config) => config.problems(),
        }
    }
}
