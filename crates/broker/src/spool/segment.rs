//! One file of the spool: appended to by the writer thread, read by the sessions.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::error::SpoolError;

const SUFFIX: &str = "seg";

/// The file is opened by whoever writes its first byte; a deleted segment stays readable for those
/// who still hold it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    path: PathBuf,
    file: OnceLock<File>,
}

impl Segment {
    /// Names a segment that does not exist yet.
    pub(super) fn planned(dir: &Path, number: u64) -> Self {
        let path = dir.join(format!("{number:012}.{SUFFIX}"));
        Self { number, path, file: OnceLock::new() }
    }

    pub(super) fn open(dir: &Path, number: u64) -> Result<Self, SpoolError> {
        let segment = Self::planned(dir, number);
        let file = OpenOptions::new().read(true).write(true).open(&segment.path);
        let file = file.map_err(|source| segment.error("open", source))?;
        Ok(Self { file: OnceLock::from(file), ..segment })
    }

    /// Numbers of the segments in `dir`, ascending.
    pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let is_segment = path.extension().is_some_and(|extension| extension == SUFFIX);
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let (true, Some(Ok(number))) = (is_segment, stem.map(str::parse)) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_created(&self) -> bool {
        self.file.get().is_some()
    }

    pub(super) fn create(&self) -> Result<(), SpoolError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&self.path);
        let file = file.map_err(|source| self.error("create", source))?;
        // Only the writer thread creates, so the cell is still empty.
        self.file.get_or_init(|| file);
        let dir = self.path.parent().unwrap_or(Path::new("."));
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| self.error("sync the directory of", source))
    }

    fn file(&self) -> io::Result<&File> {
        self.file.get().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    pub(super) fn write_at(&self, bytes: &[u8], position: u64) -> Result<(), SpoolError> {
        let written = self.file().and_then(|file| file.write_all_at(bytes, position));
        written.map_err(|source| self.error("write to", source))
    }

    pub(super) fn sync(&self) -> Result<(), SpoolError> {
        let synced = self.file().and_then(File::sync_data);
        synced.map_err(|source| self.error("sync", source))
    }

    pub(super) fn cut(&self, length: u64) -> Result<(), SpoolError> {
        let cut = self.file().and_then(|file| file.set_len(length).and_then(|()| file.sync_all()));
        cut.map_err(|source| self.error("cut the torn tail of", source))
    }

    pub(super) fn read_all(&self) -> Result<Vec<u8>, SpoolError> {
        fs::read(&self.path).map_err(|source| self.error("read", source))
    }

    /// Reads from the page cache as a rule, so it is short enough for an async task.
    pub(crate) fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<(), SpoolError> {
        let read = self.file().and_then(|file| file.read_exact_at(buffer, position));
        read.map_err(|source| self.error("read", source))
    }

    pub(super) fn delete(&self) -> Result<(), SpoolError> {
        fs::remove_file(&self.path).map_err(|source| self.error("delete", source))
    }

    fn error(&self, action: &'static str, source: io::Error) -> SpoolError {
        SpoolError::Io { action, path: self.path.clone(), source }
    }
}
