//! The folder that rows go to which are not in memory: locked by one process, and empty at its start.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

use super::engine::Engine;
use super::error::DiskError;

/// What is made below the folder, and removed.
const DATABASES: &str = "rows";

/// Is locked as long as a process has the folder.
const LOCK: &str = "lock";

/// The folder of a process. Each session has a database of its own in it.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// Bytes of blocks that the engine keeps in memory.
    cache: u64,
    sessions: AtomicU64,
    is_temporary: bool,
    /// Holds the lock.
    _lock: File,
}

impl StateFolder {
    /// Makes the folder if it is not there, and removes what an earlier process has left in it.
    ///
    /// # Errors
    /// If it can't be made or written, or another process has it.
    pub fn open(path: &Path, cache: u64) -> Result<Arc<Self>, DiskError> {
        let failed = |source| DiskError::Folder { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let databases = path.join(DATABASES);
        match std::fs::remove_dir_all(&databases) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(source));
            }
            _ => {}
        }
        std::fs::create_dir(&databases).map_err(failed)?;
        let path = path.to_owned();
        let sessions = AtomicU64::new(0);
        Ok(Arc::new(Self { path, cache, sessions, is_temporary: false, _lock: lock }))
    }

    /// A folder among the temporary files, which goes with it.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn temporary(cache: u64) -> Result<Arc<Self>, DiskError> {
        let name = format!("tidemark-state-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        let failed = |source| DiskError::Folder { path: path.clone(), source };
        // Made here and by nobody else, and nobody else looks into it.
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        std::fs::create_dir(path.join(DATABASES)).map_err(failed)?;
        let sessions = AtomicU64::new(0);
        Ok(Arc::new(Self { path, cache, sessions, is_temporary: true, _lock: lock }))
    }

    /// A database without rows, whose files go with it.
    pub(in crate::state) fn database(folder: &Arc<Self>) -> Result<Engine, DiskError> {
        let number = folder.sessions.fetch_add(1, Ordering::Relaxed);
        let path = folder.path.join(DATABASES).join(number.to_string());
        let owner: Arc<dyn Send + Sync> = Arc::<Self>::clone(folder);
        Engine::open(&path, folder.cache, owner)
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        if self.is_temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            warn!(path = %self.path.display(), %error, "a temporary folder is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_a_folder_and_finds_it_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateFolder::open(&path, 1 << 20).unwrap();
        let left = path.join(DATABASES).join("left");
        std::fs::create_dir(&left).unwrap();
        let message = StateFolder::open(&path, 1 << 20).unwrap_err().to_string();
        assert!(message.contains("another process"), "{message}");
        drop(first);
        let _second = StateFolder::open(&path, 1 << 20).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_temporary_folder_goes_with_its_process() {
        let folder = StateFolder::temporary(1 << 20).unwrap();
        let path = folder.path.clone();
        let engine = StateFolder::database(&folder).unwrap();
        assert!(path.join(DATABASES).join("0").exists());
        drop(folder);
        assert!(path.exists(), "as long as a session has it");
        drop(engine);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("state");
        let message = StateFolder::open(&path, 1 << 20).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
    }
}
