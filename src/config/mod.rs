//! `tidemark.toml`: composes the configuration of every part, and checks it whole before any connection.

mod batch;
mod dead_letters;
mod load;
mod processor;
mod sql;

pub use batch::{BatchConfig, BatchLimits};
pub use dead_letters::{DeadLetterConfig, Expires};
pub use load::{SqlSections, load, parse, sql_sections};
pub use processor::{Config, SinkConfig};
pub use sql::SqlConfig;
pub use tidemark_base::config_file::ConfigError;

#[cfg(test)]
mod tests;
