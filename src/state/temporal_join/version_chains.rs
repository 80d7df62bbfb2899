//! What is known about the versions of a looked-up table's rows, and which of them a row sees.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::error::ArrowError;
use arrow::row::Rows;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::model::{Changelog, KeyBytes, Operation, Position};
use crate::state::store::{RowPlace, TableStore};

/// One change of a row of a looked-up table.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct Version {
    pub(in crate::state) position: Position,
    /// Which source, which row of it; `None`: deleted.
    pub(in crate::state) row: Option<(usize, usize)>,
}

/// How rows that an epoch changes were before.
#[derive(Debug, Default)]
pub(in crate::state) struct RowsBefore {
    batches: Vec<RecordBatch>,
    by_key: HashMap<KeyBytes, Version>,
}

impl RowsBefore {
    /// Of the keys of a changelog, before it is folded.
    pub(in crate::state) fn note(
        &mut self,
        store: &TableStore,
        changelog: &Changelog,
    ) -> Result<(), ArrowError> {
        let mut places = Vec::new();
        let mut note = |key: KeyBytes| {
            let Some(entry) = store.entry(&key) else { return };
            let Entry::Vacant(unknown) = self.by_key.entry(key) else { return };
            let row = store.place(entry).map(|place| {
                places.push(place);
                (self.batches.len(), places.len() - 1)
            });
            unknown.insert(Version { position: entry.last.position, row });
        };
        store.encode(&changelog.batch)?.iter().for_each(|key| note(key.as_ref().into()));
        if !changelog.truncations.is_empty() {
            store.known_keys().cloned().for_each(note);
        }
        self.batches.push(store.rows_at(&places, &store.all_columns())?);
        Ok(())
    }
}

/// The versions of rows of one looked-up table.
#[derive(Debug)]
pub(in crate::state) struct VersionChains<'a> {
    store: &'a TableStore,
    /// The store's own come first.
    sources: Vec<RecordBatch>,
    /// Rising positions. What is not here is as the store says.
    by_key: HashMap<KeyBytes, Vec<Version>>,
}

impl<'a> VersionChains<'a> {
    pub(in crate::state) fn new(store: &'a TableStore) -> Self {
        let sources = store.batches().cloned().collect();
        Self { store, sources, by_key: HashMap::new() }
    }

    /// Keys of the looked-up table that are in these columns.
    pub(in crate::state) fn encode(&self, key: &[ArrayRef]) -> Result<Rows, ArrowError> {
        self.store.encode_columns(key)
    }

    /// What an epoch has done to rows that were as `before`. The store holds it already.
    pub(in crate::state) fn follow(
        &mut self,
        changes: &[Changelog],
        before: Option<&RowsBefore>,
    ) -> Result<(), ArrowError> {
        let first = self.sources.len();
        if let Some(before) = before {
            self.sources.extend(before.batches.iter().cloned());
            let known = before.by_key.iter().map(|(key, version)| {
                let row = version.row.map(|(batch, row)| (first + batch, row));
                (key.clone(), vec![Version { row, ..*version }])
            });
            self.by_key.extend(known);
        }
        for changelog in changes.iter().filter(|c| c.table.name == self.store.table().name) {
            let keys = self.store.encode(&changelog.batch)?;
            let mut truncations = changelog.truncations.iter().map(|t| t.position).peekable();
            for (row, key) in keys.iter().enumerate() {
                let version = version(changelog, row, self.sources.len());
                while let Some(older) = truncations.next_if(|at| *at < version.position) {
                    self.truncate(older);
                }
                add(self.by_key.entry(key.as_ref().into()).or_default(), version);
            }
            truncations.for_each(|at| self.truncate(at));
            self.add_source(&changelog.batch)?;
        }
        Ok(())
    }

    /// Every row that there was is deleted; those that no change of the epoch is about are here too.
    fn truncate(&mut self, position: Position) {
        self.by_key.values_mut().for_each(|chain| add(chain, Version { position, row: None }));
    }

    /// All that is landed of some keys; what the store has may be newer.
    pub(in crate::state) fn take_history(
        &mut self,
        history: &[Changelog],
    ) -> Result<(), ArrowError> {
        for changelog in history.iter().filter(|c| c.table.name == self.store.table().name) {
            let keys = self.store.encode(&changelog.batch)?;
            for (row, key) in keys.iter().enumerate() {
                let version = version(changelog, row, self.sources.len());
                self.by_key.entry(key.as_ref().into()).or_default().push(version);
            }
            self.add_source(&changelog.batch)?;
        }
        for (key, chain) in &mut self.by_key {
            chain.sort_by_key(|version| version.position);
            let newest = chain.last().map(|version| version.position);
            chain.extend(in_store(self.store, key).filter(|v| Some(v.position) > newest));
        }
        Ok(())
    }

    /// The keys whose versions are told here.
    pub(in crate::state) fn keys(&self) -> impl Iterator<Item = &KeyBytes> {
        self.by_key.keys()
    }

    /// What a row sees that changed at `position`: the version of that time, else the next one.
    pub(in crate::state) fn seen(&self, key: &KeyBytes, position: Position) -> Option<Version> {
        let in_store = in_store(self.store, key);
        let chain = match self.by_key.get(key) {
            Some(chain) => chain.as_slice(),
            None => in_store.as_slice(),
        };
        let after = chain.partition_point(|version| version.position <= position);
        let then = after.checked_sub(1).map(|at| chain[at]);
        then.filter(|version| version.row.is_some())
            .or_else(|| chain[after..].iter().find(|version| version.row.is_some()).copied())
    }

    /// The rows of some versions.
    pub(in crate::state) fn rows(&self, at: &[(usize, usize)]) -> Result<RecordBatch, ArrowError> {
        if at.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(self.store.schema())));
        }
        let column = |column: usize| {
            let sources: Vec<&dyn Array> =
                self.sources.iter().map(|source| source.column(column).as_ref()).collect();
            interleave(&sources, at)
        };
        let columns = self.store.all_columns().into_iter().map(column);
        RecordBatch::try_new(Arc::clone(self.store.schema()), columns.collect::<Result<_, _>>()?)
    }

    fn add_source(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.sources.push(batch.project(&self.store.all_columns())?);
        Ok(())
    }
}

/// An older change that comes late is none, as for the store.
fn add(chain: &mut Vec<Version>, version: Version) {
    if chain.last().is_none_or(|last| last.position < version.position) {
        chain.push(version);
    }
}

fn version(changelog: &Changelog, row: usize, source: usize) -> Version {
    let is_deleted = changelog.operations[row] == Operation::Delete;
    Version { position: changelog.positions[row], row: (!is_deleted).then_some((source, row)) }
}

fn in_store(store: &TableStore, key: &KeyBytes) -> Option<Version> {
    let entry = store.entry(key)?;
    Some(Version { position: entry.last.position, row: store.place(entry).map(RowPlace::pair) })
}
