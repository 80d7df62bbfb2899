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

/// The parser's message without the source line and without the value: either may be a password.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let message = without_value(error.message());
    match error.span() {
        Some(span) => {
            let line = text[..span.start.min(text.len())].lines().count().max(1);
            format!("line {line}: {message}")
        }
        None => message,
    }
}

/// `invalid type: integer, expected a string` of ``invalid type: integer `1234`, expected a string``.
fn without_value(message: &str) -> String {
    let is_about_value =
        ["invalid type: ", "invalid value: "].iter().any(|of| message.starts_with(of));
    let Some(expected) = message.rfind(", expected ").filter(|_| is_about_value) else {
        return message.to_owned();
    };
    let (found, expected) = message.split_at(expected);
    let kind = found.split(['`', '"']).next().unwrap_or_default().trim_end();
    format!("{kind}{expected}")
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
        fill_in_value(value, &format!("{prefix}{key}"), variable, problems);
    }
    for secret in SECRETS {
        if table.get(secret).is_some_and(|value| !matches!(value, Value::String(_))) {
            problems.push(format!("{prefix}{secret}: write it as a text, in quotes"));
            // What is wrong with it is said; its value must not be.
            table.remove(secret);
        }
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

fn fill_in_value(
    value: &mut Value,
    path: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<String>,
) {
    match value {
        Value::String(text) => match expand(text, variable) {
            Ok(expanded) => *text = expanded,
            Err(name) => problems.push(format!("{path}: the environment has no variable {name}")),
        },
        Value::Table(inner) => fill_in(inner, &format!("{path}."), variable, problems),
        Value::Array(values) => {
            for (at, value) in values.iter_mut().enumerate() {
                fill_in_value(value, &format!("{path}[{at}]"), variable, problems);
            }
        }
        _ => {}
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
