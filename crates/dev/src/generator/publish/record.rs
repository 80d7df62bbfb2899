//! What was published, in a file: one payload a line, as `--output` writes it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::generator::{Event, GeneratorError};

/// The payloads of this run after those that the file had.
pub(super) struct Record {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Record {
    pub(super) fn open(path: &Path) -> Result<Self, GeneratorError> {
        let failed = |source| GeneratorError::File { path: path.to_owned(), source };
        let file = File::options().create(true).append(true).open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 16, file) })
    }

    pub(super) fn add(&mut self, event: &Event) -> Result<(), GeneratorError> {
        let added = self.file.write_all(&event.payload).and_then(|()| self.file.write_all(b"\n"));
        added.map_err(|source| GeneratorError::File { path: self.path.clone(), source })
    }

    pub(super) fn close(&mut self) -> Result<(), GeneratorError> {
        let flushed = self.file.flush();
        flushed.map_err(|source| GeneratorError::File { path: self.path.clone(), source })
    }
}
