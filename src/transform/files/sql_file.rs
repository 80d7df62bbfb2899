//! A `.sql` file, and an error that points into one.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::model::MAX_NAME;

/// A `.sql` file as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFile {
    pub path: PathBuf,
    /// The file name without `.sql`.
    pub name: String,
    pub text: String,
}

/// Something wrong in a SQL file: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SqlError {
    pub path: PathBuf,
    /// Line and column, from 1; `None` if nothing in the file can be pointed at.
    pub at: Option<(u64, u64)>,
    pub message: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => {
                write!(f, "{}:{line}:{column}: {}", self.path.display(), self.message)
            }
            None => write!(f, "{}: {}", self.path.display(), self.message),
        }
    }
}

impl SqlFile {
    pub(crate) fn error(&self, at: Option<(u64, u64)>, message: impl Into<String>) -> SqlError {
        SqlError { path: self.path.clone(), at, message: message.into() }
    }

    /// Refuses a name that PostgreSQL would cut off, at its first place in the text.
    pub(crate) fn check_postgres_name(&self, what: &str, name: &str) -> Result<(), SqlError> {
        if name.len() <= MAX_NAME {
            return Ok(());
        }
        let message = format!(
            "{what} {name} has {} bytes, and PostgreSQL keeps {MAX_NAME} of a name",
            name.len()
        );
        Err(self.error(self.position_of(name), message))
    }

    /// Line and column of the first place of a name, in whatever case it is written.
    fn position_of(&self, name: &str) -> Option<(u64, u64)> {
        let name = name.to_lowercase();
        let place = |(number, line): (usize, &str)| {
            let at = line.to_lowercase().find(&name)?;
            let column = line.get(..at)?.chars().count();
            Some((number as u64 + 1, column as u64 + 1))
        };
        self.text.lines().enumerate().find_map(place)
    }
}

/// Editors on Windows put the mark before UTF-8, where it is no part of the text.
fn without_byte_order_mark(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// The `.sql` files of a folder, by name; an absent folder has none.
///
/// # Errors
/// If the folder or a file in it can't be read.
pub fn read_folder(folder: &Path) -> Result<Vec<SqlFile>, SqlError> {
    let unreadable = |path: &Path, error: std::io::Error| SqlError {
        path: path.to_owned(),
        at: None,
        message: format!("can't be read: {error}"),
    };
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| unreadable(folder, e))? {
        let path = entry.map_err(|e| unreadable(folder, e))?.path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        let text = std::fs::read_to_string(&path)
            .map(without_byte_order_mark)
            .map_err(|e| unreadable(&path, e))?;
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        files.push(SqlFile { path, name, text });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
