//! The embedded store, and what can go wrong with it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Slice};

use super::error::DiskError;

/// Of the keyspace of rows and of that of entries; what is written stays in memory until there is so much of it.
const MEMTABLE: u64 = 8 << 20;

/// The least that the engine takes, for what is small.
const SMALL_MEMTABLE: u64 = 1 << 20;

/// The least that the engine takes.
const JOURNAL: u64 = 64 << 20;

/// The database of a process: rows by key in one keyspace, entries of indexes in another, and what they are of.
pub(in crate::state) struct Engine {
    path: PathBuf,
    database: Database,
    rows: Keyspace,
    entries: Keyspace,
    marks: Keyspace,
}

/// Tells the keys of a table, or of what an operator keeps, from those of others.
pub(in crate::state) type Number = u16;

/// Keys that are removed together.
const REMOVED_AT_ONCE: usize = 8192;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::state) enum Kind {
    Rows,
    Entries,
    Marks,
}

/// Writes that are done together.
pub(in crate::state) struct Writes {
    engine: Arc<Engine>,
    batch: OwnedWriteBatch,
}

impl Engine {
    /// Opens the database, or makes it.
    pub(super) fn open(path: &Path, cache: u64) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Engine { path: path.to_owned(), source: Box::new(source) };
        let database = Database::builder(path)
            .cache_size(cache)
            .worker_threads(1)
            .max_journaling_size(JOURNAL)
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
        let rows = database.keyspace("rows", options).map_err(failed)?;
        let entries = database.keyspace("entries", options).map_err(failed)?;
        let small = || KeyspaceCreateOptions::default().max_memtable_size(SMALL_MEMTABLE);
        let marks = database.keyspace("marks", small).map_err(failed)?;
        Ok(Self { path: path.to_owned(), database, rows, entries, marks })
    }

    fn keyspace(&self, kind: Kind) -> &Keyspace {
        match kind {
            Kind::Rows => &self.rows,
            Kind::Entries => &self.entries,
            Kind::Marks => &self.marks,
        }
    }

    pub(in crate::state) fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Slice>, DiskError> {
        self.keyspace(kind).get(key).map_err(|source| self.failed(source))
    }

    /// The numbers that have keys.
    pub(in crate::state) fn numbers(&self) -> Result<BTreeSet<Number>, DiskError> {
        let mut numbers = BTreeSet::new();
        for kind in [Kind::Rows, Kind::Entries] {
            let mut from = Some(0);
            while let Some(number) = from {
                let mut next = self.keyspace(kind).range(Number::to_be_bytes(number).to_vec()..);
                let Some(pair) = next.next() else { break };
                let key = pair.key().map_err(|source| self.failed(source))?;
                let found = key.first_chunk().ok_or_else(|| self.damaged())?;
                let found = Number::from_be_bytes(*found);
                numbers.insert(found);
                from = found.checked_add(1);
            }
        }
        Ok(numbers)
    }

    /// Removes at most `most` keys of a number; whether all are gone.
    pub(in crate::state) fn remove_some(
        self: &Arc<Self>,
        number: Number,
        most: usize,
    ) -> Result<bool, DiskError> {
        let mut left = most;
        for kind in [Kind::Rows, Kind::Entries] {
            while left > 0 {
                let mut writes = self.writes();
                let mut removed = 0;
                let keys = self.keyspace(kind).prefix(number.to_be_bytes());
                for pair in keys.take(REMOVED_AT_ONCE.min(left)) {
                    let key = pair.key().map_err(|source| self.failed(source))?;
                    writes.remove(kind, &key);
                    removed += 1;
                }
                if removed == 0 {
                    break;
                }
                left -= removed;
                writes.commit()?;
            }
        }
        Ok(left > 0)
    }

    /// All that is written so far survives a loss of power.
    pub(in crate::state) fn sync(&self) -> Result<(), DiskError> {
        self.database.persist(PersistMode::SyncData).map_err(|source| self.failed(source))
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

    /// Rows whose keys begin with `prefix` and are below `below`, the highest first.
    pub(in crate::state) fn rows_below<'a>(
        &'a self,
        prefix: &[u8],
        below: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), DiskError>> + 'a {
        let rows = match below {
            Some(below) => self.rows.range(prefix.to_vec()..below.to_vec()),
            None => self.rows.prefix(prefix),
        };
        rows.rev().map(|pair| pair.into_inner().map_err(|source| self.failed(source)))
    }

    pub(in crate::state) fn writes(self: &Arc<Self>) -> Writes {
        Writes { engine: Arc::clone(self), batch: self.database.batch() }
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

impl Writes {
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

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes").finish_non_exhaustive()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("path", &self.path).finish_non_exhaustive()
    }
}
