//! Snapshot rows that the source read before it made the newest change that is known of their key.
//!
//! Position is the order of changes, but a snapshot may come behind the changes that it has missed: of another
//! connector, or after its offsets were lost. Only SCNs tell.

use std::collections::HashMap;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use super::{StateError, StateStores, Store};
use crate::model::{Changelog, KeyBytes, Operation, Position, Scn};

/// The newest change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    pub position: Position,
    pub scn: Option<Scn>,
}

impl StateStores {
    /// The keys of snapshot rows of which memory knows nothing although a change may be landed: it forgets
    /// deletes after a while, rows by ttl, and rows of groups beyond their bound. Each may be there twice.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn reads_of_unknown_keys(
        &self,
        changelog: &Changelog,
    ) -> Result<Option<RecordBatch>, StateError> {
        let store = &self.stores[self.by_name[&changelog.table.name]];
        if !store.has_forgotten || !has_reads(changelog) {
            return Ok(None);
        }
        reads_of_unknown_keys(store, changelog).map_err(|source| store.error(source))
    }

    /// Which rows are of a snapshot and older than the newest change of their key: in memory, among
    /// `landed`, or before them in the changelog. To be asked before anything of it is folded.
    ///
    /// A row without an SCN, or of a key whose newest change has none, counts as it comes. So does one with
    /// an equal SCN, because what was read at an SCN has all that was committed at it.
    ///
    /// # Errors
    /// As [`Self::reads_of_unknown_keys`].
    pub fn outdated(
        &self,
        changelog: &Changelog,
        landed: &HashMap<KeyBytes, Newest>,
    ) -> Result<Option<Vec<bool>>, StateError> {
        if changelog.table.options.extracted_from.is_some() || !has_reads(changelog) {
            return Ok(None);
        }
        let store = &self.stores[self.by_name[&changelog.table.name]];
        outdated(store, changelog, landed).map_err(|source| store.error(source))
    }
}

fn has_reads(changelog: &Changelog) -> bool {
    changelog.operations.contains(&Operation::Read)
}

fn reads_of_unknown_keys(
    store: &Store,
    changelog: &Changelog,
) -> Result<Option<RecordBatch>, ArrowError> {
    let keys = store.keys.encode(&changelog.batch)?;
    let is_asked = |row: usize| {
        changelog.operations[row] == Operation::Read
            && changelog.scns[row].is_some()
            && !store.entries.contains_key(keys.row(row).as_ref())
    };
    let mask: BooleanArray = (0..changelog.len()).map(|row| Some(is_asked(row))).collect();
    if mask.true_count() == 0 {
        return Ok(None);
    }
    let keys = changelog.batch.project(&store.table.key)?;
    filter_record_batch(&keys, &mask).map(Some)
}

fn outdated(
    store: &Store,
    changelog: &Changelog,
    landed: &HashMap<KeyBytes, Newest>,
) -> Result<Option<Vec<bool>>, ArrowError> {
    let keys = store.keys.encode(&changelog.batch)?;
    let stored = |key: &[u8]| {
        let entry = store.entries.get(key);
        let known = entry.map(|entry| Newest { position: entry.position, scn: entry.scn });
        known.or_else(|| landed.get(key).copied())
    };
    let mut truncated =
        store.truncated.map(|position| Newest { position, scn: store.truncated_scn });
    let mut truncations = changelog.truncations.iter().peekable();
    let mut newest: HashMap<arrow::row::Row<'_>, Newest> = HashMap::new();
    let mut is_outdated = vec![false; changelog.len()];
    for (row, is_outdated) in is_outdated.iter_mut().enumerate() {
        let (key, position, scn) = (keys.row(row), changelog.positions[row], changelog.scns[row]);
        while let Some(older) = truncations.next_if(|t| t.position < position) {
            truncated = later(truncated, Some(Newest { position: older.position, scn: older.scn }));
        }
        let known = newest.get(&key).copied().or_else(|| stored(key.as_ref()));
        let known = later(known, truncated);
        if known.is_some_and(|known| known.position >= position) {
            // Broker order tells: it is landed and changes nothing else.
            continue;
        }
        let older =
            scn.zip(known.and_then(|known| known.scn)).is_some_and(|(own, known)| own < known);
        *is_outdated = older && changelog.operations[row] == Operation::Read;
        if !*is_outdated {
            newest.insert(key, Newest { position, scn });
        }
    }
    Ok(is_outdated.contains(&true).then_some(is_outdated))
}

fn later(one: Option<Newest>, other: Option<Newest>) -> Option<Newest> {
    [one, other].into_iter().flatten().max_by_key(|newest| newest.position)
}
