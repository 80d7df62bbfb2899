//! Configuration files: TOML with `${NAME}` from the environment, and secrets from files.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

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

/// Reads a configuration from its text; `variable` answers `${NAME}`.
///
/// # Errors
/// As [`load_as`].
pub fn deserialize<T: DeserializeOwned>(
    path: &str,
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<T, ConfigError> {
    let syntax = |error: toml::de::Error| syntax_error(path, text, &error);
    let mut table: Table = text.parse().map_err(syntax)?;
    let mut problems = Vec::new();
    fill_in(&mut table, "", &variable, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError::Problems { path: path.to_owned(), problems });
    }
    table.try_into().map_err(syntax)
}

/// What the parser says about the text of `path`.
pub fn syntax_error(path: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    ConfigError::Syntax { path: path.to_owned(), message: describe(text, error) }
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
