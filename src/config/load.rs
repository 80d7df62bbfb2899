//! Reads the processor's configuration; all problems come at once.

use std::path::Path;

use tidemark_base::config_file::{ConfigError, deserialize, syntax_error};

use super::processor::Config;
use crate::decode::DecodeConfig;
use crate::xml::XmlConfig;

/// Reads and checks a configuration file.
///
/// # Errors
/// All problems at once, with their keys.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&path.display().to_string(), &text, |name| std::env::var(name).ok())
}

/// Parses and checks a configuration; `variable` answers `${NAME}`.
///
/// # Errors
/// As [`load`].
pub fn parse(
    path: &str,
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let config: Config = deserialize(path, text, variable)?;
    match config.problems() {
        none if none.is_empty() => Ok(config),
        problems => Err(ConfigError::Problems { path: path.to_owned(), problems }),
    }
}

/// What of a configuration decides on the meaning of the SQL folder.
#[derive(Debug, Default, serde::Deserialize)]
pub struct SqlSections {
    /// `[[xml]]`.
    #[serde(default)]
    pub xml: Vec<XmlConfig>,
    /// `[decode]`.
    #[serde(default)]
    pub decode: DecodeConfig,
}

/// Reads these sections, and nothing else of the file: for whoever has no connection, and no passwords either.
///
/// # Errors
/// If the file can't be read, is no TOML, or its sections are wrong.
pub fn sql_sections(path: &Path) -> Result<SqlSections, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| syntax_error(&path.display().to_string(), &text, &error))
}
