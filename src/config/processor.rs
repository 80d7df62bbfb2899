//! The whole file, and what is wrong with it.

use serde::Deserialize;

use super::batch::BatchConfig;
use super::dead_letters::DeadLetterConfig;
use super::sql::SqlConfig;
use crate::checkpoint::CheckpointConfig;
use crate::dashboard::DashboardConfig;
use crate::decode::{DecodeConfig, Limits};
use crate::sink::postgres::PostgresConfig;
use crate::sink::rest::RestConfig;
use crate::source::SourceConfig;
use crate::state::StateConfig;
use crate::transform::parse_type;
use crate::xml::{self, XmlConfig};

/// The whole file. Unknown keys are refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names this pipeline in the ledger and in the checkpoints. Two processors with one name take
    /// turns, they never both commit. Letters, digits, `-` and `_`.
    pub pipeline: String,
    pub source: SourceConfig,
    pub sink: SinkConfig,
    #[serde(default)]
    pub sql: SqlConfig,
    #[serde(default)]
    pub state: StateConfig,
    #[serde(default)]
    pub decode: DecodeConfig,
    /// Which columns hold XML, and which rows are in it.
    #[serde(default)]
    pub xml: Vec<XmlConfig>,
    #[serde(default)]
    pub batch: BatchConfig,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub dead_letters: DeadLetterConfig,
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    #[serde(default)]
    pub http: DashboardConfig,
}

/// The `[sink]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    pub postgres: PostgresConfig,
    /// The API of the transforms that write to `rest`.
    pub rest: Option<RestConfig>,
}

impl Config {
    /// Everything that is wrong with it, each with its key; no I/O.
    pub fn problems(&self) -> Vec<String> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let mut problems = Vec::new();
        if self.pipeline.is_empty() || !self.pipeline.chars().all(is_word) {
            problems.push("pipeline: give it a name of letters, digits, - and _".to_owned());
        }
        problems.extend(self.source.problems().into_iter().map(|p| format!("source.{p}")));
        problems.extend(
            self.sink.postgres.problems().into_iter().map(|p| format!("sink.postgres.{p}")),
        );
        problems.extend(self.decode.problems().into_iter().map(|p| format!("decode.{p}")));
        let letters = self.dead_letters.problems();
        problems.extend(letters.into_iter().map(|p| format!("dead_letters.{p}")));
        let rest = self.sink.rest.iter().flat_map(RestConfig::problems);
        problems.extend(rest.map(|p| format!("sink.rest.{p}")));
        if let SourceConfig::Solace(solace) = &self.source
            && self.batch.max_messages.get() * 2 > solace.max_unacked as usize
        {
            problems.push(format!(
                "batch.max_messages: {} is above half of source.max_unacked ({}), so a batch \
                     could never fill while another is committed",
                self.batch.max_messages, solace.max_unacked
            ));
        }
        problems.extend(xml::problems(&self.xml, parse_type));
        problems.extend(self.checkpoint.problems().into_iter().map(|p| format!("checkpoint.{p}")));
        problems
    }
}
