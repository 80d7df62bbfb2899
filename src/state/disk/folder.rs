//! The folder of the state: locked by one process.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

use super::engine::Engine;
use super::error::DiskError;
use crate::model::Epoch;
use crate::resilience::chain;

/// The database below the folder.
const DATABASE: &str = "rows";

/// Is locked as long as a process has the folder.
const LOCK: &str = "lock";

/// Is there when the database is of no use.
const DAMAGED: &str = "damaged";

/// The folder of a process, with its database.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    engine: Arc<Engine>,
    flushed: AtomicU64,
    is_temporary: bool,
    /// Holds the lock.
    _lock: File,
}

impl StateFolder {
    /// Makes the folder if it is not there. A database that can't be opened is replaced by an empty one: all of it can be read from the
    /// landing tables.
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
        let database = path.join(DATABASE);
        let damaged = path.join(DAMAGED);
        if damaged.exists() {
            warn!("the state on disk could not be read: an empty one replaces it");
            remove_if_there(&database).map_err(failed)?;
            std::fs::remove_file(damaged).map_err(failed)?;
        }
        let engine = match Engine::open(&database, cache) {
            Ok(engine) => engine,
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "the state on disk can't be opened: an empty one replaces it"
                );
                remove_if_there(&database).map_err(failed)?;
                Engine::open(&database, cache)?
            }
        };
        let (path, engine) = (path.to_owned(), Arc::new(engine));
        let flushed = AtomicU64::new(0);
        Ok(Arc::new(Self { path, engine, flushed, is_temporary: false, _lock: lock }))
    }

    /// A folder among the temporary files, which goes with it.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn temporary(cache: u64) -> Result<Arc<Self>, DiskError> {
        let name = format!("tidemark-state-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        let failed = |source| DiskError::Folder { path: path.clone(), source };
        // It must not be there yet, and other users may not read it.
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        let engine = Arc::new(Engine::open(&path.join(DATABASE), cache)?);
        let flushed = AtomicU64::new(0);
        Ok(Arc::new(Self { path, engine, flushed, is_temporary: true, _lock: lock }))
    }

    /// What is on disk can't be read: the next process begins with an empty database.
    pub fn note_damaged(&self) {
        if let Err(error) = File::create(self.path.join(DAMAGED)) {
            warn!(path = %self.path.display(), %error, "remove this folder before the next start");
        }
    }

    /// The state on disk is the one after this epoch.
    pub(in crate::state) fn note_flushed(&self, epoch: Epoch) {
        self.flushed.store(epoch.0, Ordering::Relaxed);
    }

    /// The epoch of the state on disk; 0 if there is none. The ledger keeps what comes after it.
    pub fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Relaxed)
    }

    pub(in crate::state) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

fn remove_if_there(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
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
    use crate::state::disk::Kind;

    fn mark(folder: &StateFolder) -> Option<Vec<u8>> {
        folder.engine.get(Kind::Marks, b"mark").unwrap().map(|value| value.to_vec())
    }

    #[test]
    fn one_process_has_a_folder_and_the_next_one_finds_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateFolder::open(&path, 1 << 20).unwrap();
        let mut writes = first.engine.writes();
        writes.insert(Kind::Marks, b"mark", b"kept");
        writes.commit().unwrap();
        let message = StateFolder::open(&path, 1 << 20).unwrap_err().to_string();
        assert!(message.contains("another process"), "{message}");
        drop(first);
        assert_eq!(mark(&StateFolder::open(&path, 1 << 20).unwrap()), Some(b"kept".to_vec()));
    }

    #[test]
    fn a_database_that_cannot_be_opened_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        drop(StateFolder::open(&path, 1 << 20).unwrap());
        for file in std::fs::read_dir(path.join(DATABASE)).unwrap() {
            let file = file.unwrap().path();
            if file.is_file() {
                std::fs::write(file, "no database").unwrap();
            }
        }
        assert_eq!(mark(&StateFolder::open(&path, 1 << 20).unwrap()), None);
    }

    #[test]
    fn a_database_that_could_not_be_read_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateFolder::open(&path, 1 << 20).unwrap();
        let mut writes = first.engine.writes();
        writes.insert(Kind::Marks, b"mark", b"damaged");
        writes.commit().unwrap();
        first.note_damaged();
        drop(first);
        for _ in 0..2 {
            assert_eq!(mark(&StateFolder::open(&path, 1 << 20).unwrap()), None);
        }
    }

    #[test]
    fn a_temporary_folder_goes_with_its_process() {
        let folder = StateFolder::temporary(1 << 20).unwrap();
        let path = folder.path.clone();
        assert!(path.exists());
        drop(folder);
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
