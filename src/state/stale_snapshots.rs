//! Snapshot rows that the source read before it made the newest change that is known of their key.
//!
//! Position is the order of changes, but a snapshot may come behind the changes that it has missed: of another
//! connector, or after its offsets were lost. Only SCNs tell.

use std::collections::HashMap;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use super::error::StateError;
use super::store::{LastChange, TableStore};
use super::stores::StateStores;
use crate::model::{Changelog, KeyBytes, Operation};

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
        let store = self.store_of(changelog);
        if !store.has_forgotten() || !has_reads(changelog) {
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
    pub fn stale_snapshots(
        &self,
        changelog: &Changelog,
        landed: &HashMap<KeyBytes, LastChange>,
    ) -> Result<Option<Vec<bool>>, StateError> {
        if changelog.table.is_extracted() || !has_reads(changelog) {
            return Ok(None);
        }
        let store = self.store_of(changelog);
        stale_snapshots(store, changelog, landed).map_err(|source| store.error(source))
    }
}

fn has_reads(changelog: &Changelog) -> bool {
    changelog.operations.contains(&Operation::Read)
}

fn reads_of_unknown_keys(
    store: &TableStore,
    changelog: &Changelog,
) -> Result<Option<RecordBatch>, ArrowError> {
    let keys = store.encode(&changelog.batch)?;
    let is_asked = |row: usize| {
        changelog.operations[row] == Operation::Read
            && changelog.scns[row].is_some()
            && store.entry(keys.row(row).as_ref()).is_none()
    };
    let mask: BooleanArray = (0..changelog.len()).map(|row| Some(is_asked(row))).collect();
    if mask.true_count() == 0 {
        return Ok(None);
    }
    let keys = changelog.batch.project(&store.table().key)?;
    filter_record_batch(&keys, &mask).map(Some)
}

fn stale_snapshots(
    store: &TableStore,
    changelog: &Changelog,
    landed: &HashMap<KeyBytes, LastChange>,
) -> Result<Option<Vec<bool>>, ArrowError> {
    let keys = store.encode(&changelog.batch)?;
    let stored =
        |key: &[u8]| store.entry(key).map(|entry| entry.last).or_else(|| landed.get(key).copied());
    let mut truncated = store.truncated();
    let mut truncations = changelog.truncations.iter().peekable();
    let mut newest: HashMap<arrow::row::Row<'_>, LastChange> = HashMap::new();
    let mut is_stale = vec![false; changelog.len()];
    for (row, is_stale) in is_stale.iter_mut().enumerate() {
        let (key, position, scn) = (keys.row(row), changelog.positions[row], changelog.scns[row]);
        while let Some(older) = truncations.next_if(|t| t.position < position) {
            let older = LastChange { position: older.position, scn: older.scn };
            truncated = later(truncated, Some(older));
        }
        let of_key = newest.get(&key).copied().or_else(|| stored(key.as_ref()));
        let known = later(of_key, truncated);
        if known.is_some_and(|known| known.position >= position) {
            // Broker order tells: it is landed and changes nothing else.
            continue;
        }
        let older =
            scn.zip(known.and_then(|known| known.scn)).is_some_and(|(own, known)| own < known);
        *is_stale = older && changelog.operations[row] == Operation::Read;
        if !*is_stale {
            newest.insert(key, LastChange { position, scn });
        }
    }
    Ok(is_stale.contains(&true).then_some(is_stale))
}

fn later(one: Option<LastChange>, other: Option<LastChange>) -> Option<LastChange> {
    [one, other].into_iter().flatten().max_by_key(|newest| newest.position)
}
