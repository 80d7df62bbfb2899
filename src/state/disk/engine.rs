//! The embedded store, and what can go wrong with it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, Slice};

use super::error::DiskError;

/// Of each of the two keyspaces; what is written stays in memory until there is so much of it.
const MEMTABLE: u64 = 16 << 20;

/// The least that the engine takes.
const JOURNAL: u64 = 64 << 20;

/// The database of a session: rows by key in one keyspace, entries of indexes in the other.
pub(in crate::state) struct Engine {
    path: PathBuf,
    database: Database,
    rows: Keyspace,
    entries: Keyspace,
    /// Outlives the files in it.
    _folder: Arc<dyn Send + Sync>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::state) enum Kind {
    Rows,
    Entries,
}

/// Writes that are done together.
pub(in crate::state) struct Writes<'a> {
    engine: &'a Engine,
    batch: OwnedWriteBatch,
}

impl Engine {
    /// Makes a database whose files are removed with it.
    pub(super) fn open(
        path: &Path,
        cache: u64,
        folder: Arc<dyn Send + Sync>,
    ) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Engine { path: path.to_owned(), source: Box::new(source) };
        let database = Database::builder(path)
            .temporary(true)
            .cache_size(cache)
            .worker_threads(1)
            .max_journaling_size(JOURNAL)
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
        let rows = database.keyspace("rows", options).map_err(failed)?;
        let entries = database.keyspace("entries", options).map_err(failed)?;
        Ok(Self { path: path.to_owned(), database, rows, entries, _folder: folder })
    }

    fn keyspace(&self, kind: Kind) -> &Keyspace {
        match kind {
            Kind::Rows => &self.rows,
            Kind::Entries => &self.entries,
        }
    }

    pub(in crate::state) fn row(&self, key: &[u8]) -> Result<Option<Slice>, DiskError> {
        self.rows.get(key).map_err(|source| self.failed(source))
    }

    /// Keys that begin with `prefix`, and their values, in their order, until `visit` fails.
    pub(in crate::state) fn each<E: From<DiskError>>(
        &self,
        kind: Kind,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], Slice) -> Result<(), E>,
    ) -> Result<(), E> {
        for pair in self.keyspace(kind).prefix(prefix) {
            let (key, value) = pair.into_inner().map_err(|source| self.failed(source))?;
            visit(&key, value)?;
        }
        Ok(())
    }

    pub(in crate::state) fn writes(&self) -> Writes<'_> {
        Writes { engine: self, batch: self.database.batch() }
    }

    /// Bytes of its files.
    pub(in crate::state) fn disk_space(&self) -> u64 {
        self.rows.disk_space() + self.entries.disk_space()
    }

    pub(in crate::state) fn damaged(&self) -> DiskError {
        DiskError::Damaged(self.path.clone())
    }

    fn failed(&self, source: fjall::Error) -> DiskError {
        DiskError::Engine { path: self.path.clone(), source: Box::new(source) }
    }
}

impl Writes<'_> {
    pub(in crate::state) fn insert(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        self.batch.insert(self.engine.keyspace(kind), key, value);
    }

    pub(in crate::state) fn remove(&mut self, kind: Kind, key: &[u8]) {
        self.batch.remove(self.engine.keyspace(kind), key);
    }

    /// All of them, or none if it fails.
    pub(in crate::state) fn commit(self) -> Result<(), DiskError> {
        self.batch.commit().map_err(|source| self.engine.failed(source))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("path", &self.path).finish_non_exhaustive()
    }
}
