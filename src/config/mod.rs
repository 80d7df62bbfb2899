//! `tidemark.toml`: composes the configuration of every part, and checks it whole before any connection.

mod load;

pub use load::{ConfigError, SqlSections, load, load_as, parse, sql_sections};

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::checkpoint;
use crate::dashboard;
use crate::decode::{DecodeConfig, Limits};
use crate::pipeline::{BatchLimits, DeadLetterConfig};
use crate::sink::postgres::PostgresConfig;
use crate::sink::rest::RestConfig;
use crate::source::SourceConfig;
use crate::state::{default_limit, memory};
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
    pub checkpoint: checkpoint::Config,
    #[serde(default)]
    pub http: dashboard::Config,
}

/// The `[sink]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    pub postgres: PostgresConfig,
    /// The API of the transforms that write to `rest`.
    pub rest: Option<RestConfig>,
}

/// The `[sql]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqlConfig {
    /// The folder with `tables/`, `transforms/` and `ods/`. Default: `sql`.
    pub folder: PathBuf,
    /// How far the watermark stays behind the newest event time. Default: 10 s.
    #[serde(with = "humantime_serde")]
    pub watermark_delay: Duration,
    /// How long a table may be without events, by the source's clock, before the watermark goes on
    /// without it. Default: 30 s.
    #[serde(with = "humantime_serde")]
    pub idle_after: Duration,
    /// How much the rows in memory and what is kept for results may take, as in `"4GiB"`. Beyond it no more
    /// messages are taken, and `/ready` says why. Default: half of the memory of the container or machine.
    pub memory_limit: Option<ByteSize>,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("sql"),
            watermark_delay: Duration::from_secs(10),
            idle_after: Duration::from_secs(30),
            memory_limit: default_limit(),
        }
    }
}

/// The `[batch]` section: when a micro-batch closes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Messages. At most half of the source's `max_unacked`, so that one batch can be collected
    /// while another is committed; it grows to that while messages come faster than they are processed.
    /// Default: 5000.
    pub max_messages: NonZeroUsize,
    /// Payload bytes. Default: 32 MiB, but not more than a 64th of the memory of the container or machine, because
    /// two batches are at work at a time, and the rows in large XML take some ten times its bytes.
    pub max_bytes: NonZeroUsize,
    /// Age of the oldest message. A batch also closes as soon as the commit before it is done.
    /// Default: 20 ms.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_messages: NonZeroUsize::new(5000).expect("is not 0"),
            max_bytes: default_batch_bytes(memory()),
            max_age: Duration::from_millis(20),
        }
    }
}

fn default_batch_bytes(memory: Option<ByteSize>) -> NonZeroUsize {
    const MOST: u64 = 32 << 20;
    let share = memory.map_or(MOST, |memory| (memory.0 / 64).clamp(1 << 20, MOST));
    NonZeroUsize::new(share as usize).expect("is at least 1 MiB")
}

impl BatchConfig {
    /// Those for a source that may have `max_unacked` messages unacknowledged.
    pub fn limits(&self, max_unacked: Option<u32>) -> BatchLimits {
        let messages = self.max_messages.get();
        let half = max_unacked.map_or(0, |max_unacked| max_unacked as usize / 2);
        BatchLimits {
            messages,
            pressed_messages: messages.max(half),
            bytes: self.max_bytes.get(),
            age: self.max_age,
        }
    }
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
        if self.checkpoint.interval.is_zero() {
            problems.push("checkpoint.interval: must be above 0".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests;
