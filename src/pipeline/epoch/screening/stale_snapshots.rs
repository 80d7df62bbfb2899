//! Snapshot rows that are older than what is known of their keys: they are counted, and neither applied nor
//! landed, because landing tables hold changes, and the newest row of a key in them is its current one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use metrics::counter;

use crate::model::{Changelog, KeyBytes, Offset};
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::error::Stopped;
use crate::state::{LastChange, StateStores};
use crate::telemetry::names;

/// Takes them out of `changes`, with the rows of their documents; the messages that nothing is left of. To be asked
/// when all that ttl has dropped and the changes need is in memory.
pub(crate) async fn take_out(
    stores: &StateStores,
    landing: &mut LandingReader,
    changes: &mut Vec<Changelog>,
) -> Result<HashSet<Offset>, Stopped> {
    let (mut outdated, mut events) = (HashSet::new(), HashSet::new());
    for changelog in changes.iter() {
        let newest = newest_landed(stores, landing, changelog).await?;
        let Some(is_outdated) = stores.stale_snapshots(changelog, &newest)? else { continue };
        let before = outdated.len();
        for row in (0..changelog.len()).filter(|row| is_outdated[*row]) {
            outdated.insert(changelog.positions[row]);
            events.insert(changelog.offsets[row]);
        }
        counter!(names::OUTDATED_READS, "table" => changelog.table.name.clone())
            .increment((outdated.len() - before) as u64);
    }
    if !outdated.is_empty() {
        for changelog in std::mem::take(changes) {
            let is_gone: Vec<bool> =
                changelog.positions.iter().map(|at| outdated.contains(at)).collect();
            let rest = changelog.without(&is_gone);
            changes.extend((!rest.is_empty()).then_some(rest));
        }
        let left: HashSet<Offset> = changes.iter().flat_map(|rest| rest.offsets.clone()).collect();
        events.retain(|event| !left.contains(event));
    }
    Ok(events)
}

/// Of the keys of snapshot rows that memory does not know.
async fn newest_landed(
    stores: &StateStores,
    landing: &mut LandingReader,
    changelog: &Changelog,
) -> Result<HashMap<KeyBytes, LastChange>, Stopped> {
    let mut newest: HashMap<KeyBytes, LastChange> = HashMap::new();
    let Some(keys) = stores.reads_of_unknown_keys(changelog)? else { return Ok(newest) };
    let asked = vec![(Arc::clone(&changelog.table), keys)];
    for part in &landing.history(asked).await? {
        // The changes of a key come in their order.
        for (row, key) in stores.row_keys(part)?.into_iter().enumerate() {
            newest.insert(key, LastChange { position: part.positions[row], scn: part.scns[row] });
        }
    }
    Ok(newest)
}
