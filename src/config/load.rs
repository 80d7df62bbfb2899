//! Reads configuration files: `${NAME}` and secrets in files are filled in, all problems come at once.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::processor::Config;
use crate::decode::DecodeConfig;
use crate::xml::XmlConfig;

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{} can't be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: {message}")]
    Syntax { path: String, message: String },
    #[error("{path}: {}", problems.join("\n  "))]
    Problems { path: String, problems: Vec<String> },
}

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

/// Reads a file of any of the program's configurations, with `${NAME}` replaced by the environment.
///
/// A key `password_file`, `url_file`, `token_file`, `api_key_file` or `client_secret_file` stands for the
/// content of that file, as container platforms mount secrets.
///
/// # Errors
/// If the file can't be read, is no TOML, or names a variable that is not set.
pub fn load_as<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    deserialize(&path.display().to_string(), &text, |name| std::env::var(name).ok())
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
    toml::from_str(&text).map_err(|error| ConfigError::Syntax {
        path: path.display().to_string(),
        message: describe(&text, &error),
    })
}

fn deserialize<T: DeserializeOwned>(
    path: &str,
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<T, ConfigError> {
    let syntax = |error: toml::de::Error| {
        let message = describe(text, &error);
        ConfigError::Syntax { path: path.to_owned(), message }
    };
    let mut table: Table = text.parse().map_err(syntax)?;
    let mut problems = Vec::new();
    fill_in(&mut table, "", &variable, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError::Problems { path: path.to_owned(), problems });
    }
    table.try_into().map_err(syntax)
}

/// The parser's message without the source line: that line may hold a password.
fn describe(text: &str, error: &toml::de::Error) -> String {
    match error.span() {
        Some(span) => {
            let line = text[..span.start.min(text.len())].lines().count().max(1);
            format!("line {line}: {}", error.message())
        }
        None => error.message().to_owned(),
    }
}

const SECRETS: [&str; 5] = ["password", "url", "token", "api_key", "client_secret"];

/// Replaces `${NAME}` in every text, and `password_file` by `password`.
fn fill_in(
    table: &mut Table,
    prefix: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<String>,
) {
    for (key, value) in table.iter_mut() {
        let path = format!("{prefix}{key}");
        match value {
            Value::String(text) => match expand(text, variable) {
                Ok(expanded) => *text = expanded,
                Err(name) => {
                    problems.push(format!("{path}: the environment has no variable {name}"))
                }
            },
            Value::Table(inner) => fill_in(inner, &format!("{path}."), variable, problems),
            _ => {}
        }
    }
    for secret in SECRETS {
        let key = format!("{secret}_file");
        let Some(Value::String(file)) = table.remove(&key) else { continue };
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                table.insert(secret.to_owned(), Value::String(text.trim_end().to_owned()));
            }
            Err(error) => problems.push(format!("{prefix}{key}: {file} can't be read: {error}")),
        }
    }
}

/// The text with each `${NAME}` replaced; the name of the first one that is not set as error.
fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else { break };
        expanded.push_str(before);
        expanded.push_str(&variable(name).ok_or_else(|| name.to_owned())?);
        rest = tail;
    }
    expanded.push_str(rest);
    Ok(expanded)
}
