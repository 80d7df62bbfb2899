//! A `.sql` file, and an error that points into one.

use std::fmt;
use std::path::{Path, PathBuf};

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
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        files.push(SqlFile { path, name, text });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
