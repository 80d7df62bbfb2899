//! Which rows ttl may drop from memory.

use arrow::array::{Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take;
use arrow::error::ArrowError;

use super::{StateError, Store};

/// The times before which a row is no longer needed. Microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    /// Rows that have not changed since; `None`: rows never expire.
    pub(super) changed_before: Option<i64>,
    /// Rows whose event time is before it are in no open window.
    pub(super) event_before: i64,
    pub(super) forget_deletes_before: i64,
}

/// Drops the rows of `store` that are beyond the horizon and whose parent row is not in memory.
///
/// # Errors
/// If Arrow can't process a batch.
pub(super) fn expire(
    store: &mut Store,
    parent: Option<&Store>,
    horizon: Horizon,
) -> Result<usize, StateError> {
    forget_deletes(store, horizon.forget_deletes_before);
    let Some(changed_before) = horizon.changed_before else { return Ok(0) };
    drop_rows(store, parent, changed_before, horizon.event_before)
        .map_err(|source| store.error(source))
}

fn forget_deletes(store: &mut Store, before: i64) {
    let (entries, deleted) = (&mut store.entries, &mut store.deleted);
    deleted.retain(|(time, key)| {
        let is_old = *time < before;
        let is_still_deleted = entries.get(key).is_some_and(|entry| entry.place.is_none());
        if is_old && is_still_deleted {
            entries.remove(key);
        }
        !is_old && is_still_deleted
    });
}

fn drop_rows(
    store: &mut Store,
    parent: Option<&Store>,
    changed_before: i64,
    event_before: i64,
) -> Result<usize, ArrowError> {
    let mut dropped = 0;
    for at in 0..store.segments.len() {
        let segment = &store.segments[at];
        let event_time = event_time_column(store, &segment.batch);
        let candidates: Vec<u32> = (0..segment.changed_at.len())
            .filter(|row| segment.is_live(*row) && segment.changed_at[*row] < changed_before)
            .filter(|row| {
                event_time.is_none_or(|t| t.is_null(*row) || t.value(*row) < event_before)
            })
            .map(|row| row as u32)
            .collect();
        if candidates.is_empty() {
            continue;
        }
        let candidates = UInt32Array::from(candidates);
        let orphans = without_parent(store, parent, at, &candidates)?;
        let rows = arrow::compute::take_record_batch(&store.segments[at].batch, &orphans)?;
        let keys = store.keys.encode(&rows)?;
        for key in &keys {
            store.evict(key.as_ref())?;
        }
        dropped += orphans.len();
    }
    if dropped > 0 {
        store.compact()?;
    }
    Ok(dropped)
}

fn event_time_column<'a>(
    store: &Store,
    batch: &'a RecordBatch,
) -> Option<&'a TimestampMicrosecondArray> {
    let column = store.table.options.event_time?;
    batch.column(column).as_any().downcast_ref()
}

/// Those of the candidate rows whose parent is not in memory; all of them if there is no parent table.
fn without_parent(
    store: &Store,
    parent: Option<&Store>,
    segment: usize,
    candidates: &UInt32Array,
) -> Result<UInt32Array, ArrowError> {
    let (Some(parent), Some(reference)) = (parent, store.table.options.references.as_ref()) else {
        return Ok(candidates.clone());
    };
    let column = store.segments[segment].batch.column(reference.column);
    let parents = parent.keys.encode_columns(&[take(column, candidates, None)?])?;
    let has_parent = |key: &[u8]| parent.entries.get(key).is_some_and(|e| e.place.is_some());
    let orphans = candidates.values().iter().zip(&parents);
    Ok(orphans
        .filter(|(_, key)| !has_parent(key.as_ref()))
        .map(|(row, _)| *row)
        .collect::<Vec<u32>>()
        .into())
}
