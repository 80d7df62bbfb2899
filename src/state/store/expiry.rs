//! Which rows ttl may drop from memory.

use arrow::array::{Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::error::ArrowError;

use super::touched::Touched;
use super::{StateError, Store};
use crate::model::{Position, TableDelta};

/// The times before which a row is no longer needed. Microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    /// Rows that have not changed since; `None`: rows never expire.
    pub(super) changed_before: Option<i64>,
    /// Rows whose event time is before it are in no open window.
    pub(super) event_before: i64,
    pub(super) forget_deletes_before: i64,
    /// Changes up to here are landed: whoever looks for a dropped row finds it there.
    pub(super) landed: Position,
}

/// Drops the rows of `store` that are beyond the horizon and whose parent row is not in memory.
/// `parents` are the stores of other tables that `store` may reference.
///
/// # Errors
/// If Arrow can't process a batch.
pub(super) fn expire(
    store: &mut Store,
    parents: &[Store],
    horizon: &Horizon,
) -> Result<Option<TableDelta>, StateError> {
    forget_deletes(store, horizon);
    let Some(changed_before) = horizon.changed_before else { return Ok(None) };
    drop_rows(store, parents, (changed_before, horizon)).map_err(|source| store.error(source))
}

fn forget_deletes(store: &mut Store, horizon: &Horizon) {
    let (entries, deleted) = (&mut store.entries, &mut store.deleted);
    let has_forgotten = &mut store.has_forgotten;
    deleted.retain(|delete| {
        let is_old = delete.at < horizon.forget_deletes_before && delete.position <= horizon.landed;
        let entry = entries.get(&delete.key);
        // The key may have come back, and may have been deleted once more.
        let is_its_last = entry.is_some_and(|entry| entry.position == delete.position);
        if is_old && is_its_last {
            entries.remove(&delete.key);
            *has_forgotten = true;
        }
        !is_old && is_its_last
    });
}

fn drop_rows(
    store: &mut Store,
    parents: &[Store],
    (changed_before, horizon): (i64, &Horizon),
) -> Result<Option<TableDelta>, ArrowError> {
    let mut dropped = Touched::default();
    for at in 0..store.segments.len() {
        let segment = &store.segments[at];
        let event_time = event_time_column(store, &segment.batch);
        let candidates: Vec<u32> = (0..segment.changed_at.len())
            .filter(|row| segment.is_live(*row) && segment.changed_at[*row] < changed_before)
            .filter(|row| {
                event_time.is_none_or(|t| t.is_null(*row) || t.value(*row) < horizon.event_before)
            })
            .map(|row| row as u32)
            .collect();
        if candidates.is_empty() {
            continue;
        }
        let candidates = UInt32Array::from(candidates);
        let orphans = without_parent(store, parents, at, &candidates)?;
        let rows = take_record_batch(&store.segments[at].batch, &orphans)?;
        for key in &store.keys.encode(&rows)? {
            let entry = store.entries.get(key.as_ref());
            if entry.is_some_and(|entry| entry.position <= horizon.landed) {
                store.drop_row(key.as_ref(), &mut dropped)?;
            }
        }
    }
    if dropped.is_empty() {
        return Ok(None);
    }
    let delta = store.settle(dropped)?;
    store.compact()?;
    Ok(Some(delta))
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
    parents: &[Store],
    segment: usize,
    candidates: &UInt32Array,
) -> Result<UInt32Array, ArrowError> {
    let Some(reference) = &store.table.options.references else { return Ok(candidates.clone()) };
    let parents = parents.iter().chain([store]);
    let Some(parent) = parents.into_iter().find(|p| p.table.name == reference.table) else {
        return Ok(candidates.clone());
    };
    let column = store.segments[segment].batch.column(reference.column);
    let parents = parent.keys.encode_columns(&[take(column, candidates, None)?])?;
    let has_parent = |key: &[u8]| parent.entries.get(key).is_some_and(|e| e.slot.is_some());
    let orphans = candidates.values().iter().zip(&parents);
    Ok(orphans
        .filter(|(_, key)| !has_parent(key.as_ref()))
        .map(|(row, _)| *row)
        .collect::<Vec<u32>>()
        .into())
}
