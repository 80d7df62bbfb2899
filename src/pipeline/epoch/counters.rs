//! What the metrics say of an epoch and of the state after it.

use metrics::{counter, gauge};
use tracing::warn;

use crate::decode::Decoded;
use crate::model::Changelog;
use crate::resilience::chain;
use crate::state::{Evicted, StateError, StateStores};
use crate::telemetry::names;
use crate::transform::Transforms;

pub(super) fn count_rows(changes: &[Changelog]) {
    for changelog in changes {
        let table = changelog.table.name.clone();
        counter!(names::ROWS, "table" => table.clone()).increment(changelog.len() as u64);
        if !changelog.unchanged.is_empty() {
            let cells = changelog.unchanged.len() as u64;
            counter!(names::UNAVAILABLE_VALUES, "table" => table).increment(cells);
        }
    }
}

pub(super) fn count_decoded(decoded: &Decoded) {
    count_rows(&decoded.changes);
    let passed = &decoded.passed;
    let kinds = [
        ("tombstone", passed.tombstones),
        ("heartbeat", passed.heartbeats),
        ("transaction_marker", passed.transaction_markers),
        ("schema_change", passed.schema_changes),
        ("unknown_table", passed.unknown_tables),
        ("notification", passed.notifications),
        ("signal", passed.signals),
    ];
    for (kind, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
        counter!(names::PASSED, "kind" => kind).increment(count as u64);
    }
    for table in &decoded.unread_documents {
        counter!(names::UNREAD_DOCUMENTS, "table" => table.clone()).increment(1);
    }
    for (table, unread) in &decoded.unread_parts {
        let (values, attributes) = (unread.values as u64, unread.attributes as u64);
        counter!(names::UNREAD_VALUES, "table" => table.clone()).increment(values);
        counter!(names::UNREAD_ATTRIBUTES, "table" => table.clone()).increment(attributes);
    }
}

pub(super) fn count_recalled(recalled: Vec<(String, usize)>) {
    for (table, rows) in recalled {
        counter!(names::RECALLED_ROWS, "table" => table).increment(rows as u64);
    }
}

/// What was committed could not be brought to the disk.
pub(super) fn count_flush(flushed: Result<(), StateError>) {
    if let Err(error) = flushed {
        counter!(names::FAILED_EVICTIONS).increment(1);
        warn!(
            error = chain(&error),
            "the state can't be written to disk, so a restart reads more: free the disk of [state] path"
        );
    }
}

/// Rows that have left memory, or that the disk has not taken.
pub(super) fn count_evicted(evicted: Result<Evicted, StateError>) {
    match evicted {
        Ok(evicted) => {
            for (table, rows) in evicted {
                counter!(names::EVICTED_ROWS, "table" => table).increment(rows as u64);
            }
        }
        Err(error) => {
            counter!(names::FAILED_EVICTIONS).increment(1);
            warn!(error = chain(&error), "rows can't leave memory: free the disk of [state] path");
        }
    }
}

pub(super) fn show_memory(stores: &StateStores, transforms: &Transforms) {
    for store in stores.stores() {
        let table = store.table().name.clone();
        gauge!(names::STATE_ROWS, "table" => table.clone()).set(store.len() as f64);
        gauge!(names::STATE_BYTES, "table" => table).set(store.memory() as f64);
    }
    gauge!(names::STATE_DISK_BYTES).set(stores.disk_bytes() as f64);
    for (view, rows, versions, bytes) in stores.views() {
        gauge!(names::LOOKUP_ROWS, "view" => view.to_owned()).set(rows as f64);
        gauge!(names::LOOKUP_VERSIONS, "view" => view.to_owned()).set(versions as f64);
        gauge!(names::LOOKUP_BYTES, "view" => view.to_owned()).set(bytes as f64);
    }
    for (result, bytes) in transforms.memory() {
        gauge!(names::UPKEEP_BYTES, "result" => result.to_owned()).set(bytes as f64);
    }
}
