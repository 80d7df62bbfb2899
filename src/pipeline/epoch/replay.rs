//! Dead letters that come back, as an epoch of their own.
//!
//! A row is applied only if no newer version of its key has landed. What became of each letter is written in
//! the transaction of its rows, so that a crash changes nothing and a second request finds nothing to do.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use metrics::counter;
use tracing::info;

use crate::decode::Decoded;
use crate::model::{
    Changelog, Channel, DeadLetter, EpochCommit, KeyBytes, Offset, Position, RefusedRequest,
    ReplayOutcome, ReplayRequest, Replayed, Resent, ResultTable,
};
use crate::pipeline::epoch::landing_reader::LandingReader;
use crate::pipeline::error::Stopped;
use crate::state::StateStores;
use crate::telemetry::names;

/// Takes out the rows of which a newer version has landed, and the messages that nothing is left of: these
/// are returned. To be asked when nothing is being committed.
pub(crate) async fn take_superseded(
    stores: &StateStores,
    landing: &mut LandingReader,
    decoded: &mut Decoded,
) -> Result<HashSet<Offset>, Stopped> {
    let (mut gone, mut left) = (HashSet::new(), HashSet::new());
    for changelog in std::mem::take(&mut decoded.changes) {
        if changelog.table.is_extracted() {
            // Nothing comes of these rows without the row that they were extracted from.
            decoded.changes.push(changelog);
            continue;
        }
        left.extend(changelog.truncations.iter().map(|truncation| truncation.offset));
        let newest = newest_positions(stores, landing, &changelog).await?;
        let is_gone: Vec<bool> = changelog
            .positions
            .iter()
            .zip(newest)
            .map(|(position, newest)| newest.is_some_and(|newest| newest >= *position))
            .collect();
        for (offset, is_gone) in changelog.offsets.iter().zip(&is_gone) {
            let _is_new = if *is_gone { gone.insert(*offset) } else { left.insert(*offset) };
        }
        let rest = if is_gone.contains(&true) { changelog.without(&is_gone) } else { changelog };
        decoded.changes.extend((!rest.is_empty()).then_some(rest));
    }
    gone.retain(|offset| !left.contains(offset));
    Ok(gone)
}

/// Per row: where the newest change of its key is.
async fn newest_positions(
    stores: &StateStores,
    landing: &mut LandingReader,
    changelog: &Changelog,
) -> Result<Vec<Option<Position>>, Stopped> {
    let table = &changelog.table;
    let keys = changelog.batch.project(&table.key).expect("the table has its key columns");
    let asked: Vec<(_, RecordBatch)> = vec![(Arc::clone(table), keys)];
    let mut by_key: HashMap<KeyBytes, Position> = HashMap::new();
    for part in &landing.history(asked).await? {
        for (key, position) in stores.row_keys(part)?.into_iter().zip(&part.positions) {
            let newest = by_key.entry(key).or_insert(*position);
            *newest = (*newest).max(*position);
        }
    }
    let known = stores.known_positions(changelog)?;
    let keys = stores.row_keys(changelog)?;
    let newest = |(key, known): (&KeyBytes, Option<Position>)| by_key.get(key).copied().max(known);
    Ok(keys.iter().zip(known).map(newest).collect())
}

/// Splits requests in those whose place among the landed changes is known, and the others with a reason.
pub(crate) fn placed(
    asked: Vec<ReplayRequest>,
    position: impl Fn(Offset) -> Option<Position>,
) -> (Vec<ReplayRequest>, Vec<Replayed>) {
    let (mut placed, mut lost) = (Vec::new(), Vec::new());
    for request in asked {
        match position(request.message.offset) {
            Some(position) => placed.push((position, request)),
            None => {
                let reason = format!(
                    "message {} belongs to a spool that this queue never had, so its place among newer changes is \
                     not known: publish its bytes again",
                    request.message.offset
                );
                let outcome = ReplayOutcome::NotTried(reason);
                lost.push(Replayed { id: request.id, outcome });
            }
        }
    }
    placed.sort_by_key(|(position, _)| *position);
    (placed.into_iter().map(|(_, request)| request).collect(), lost)
}

/// What goes back to the outbox, and what became of the letters of which nothing does.
pub(crate) fn resendable(
    results: &[Arc<ResultTable>],
    asked: &[RefusedRequest],
) -> (Vec<Resent>, Vec<Replayed>) {
    let (mut resent, mut settled) = (Vec::new(), Vec::new());
    for RefusedRequest { id, result, has_place } in asked {
        let is_result = |known: &&Arc<ResultTable>| {
            known.name == *result && matches!(known.channel, Channel::Rest(_))
        };
        match results.iter().find(is_result) {
            Some(result) if *has_place => resent.push(Resent {
                id: *id,
                is_version: result.posts_versions(),
                is_once: result.is_sent_once(),
            }),
            known => {
                let reason = match known {
                    None => format!(
                        "no SQL file posts a result {result} any more, or its file waits for a column"
                    ),
                    Some(_) => "an earlier version of Tidemark kept this request without its place among \
                        those of its key, so it may be older than what was posted since: the next change of its row \
                        is posted"
                        .to_owned(),
                };
                settled.push(Replayed { id: *id, outcome: ReplayOutcome::NotTried(reason) });
            }
        }
    }
    info!(
        requests = resent.len(),
        refused = settled.len(),
        "refused requests go back to the outbox"
    );
    (resent, settled)
}

/// Turns the epoch's dead letters, which are no new ones, into outcomes, and tells all of them.
pub(crate) fn settle(
    commit: &mut EpochCommit,
    asked: &[ReplayRequest],
    superseded: &HashSet<Offset>,
    lost: Vec<Replayed>,
) {
    let letters = std::mem::take(&mut commit.dead_letters);
    let mut failed: HashMap<Offset, DeadLetter> =
        letters.into_iter().map(|letter| (letter.offset, letter)).collect();
    let mut outcome = |offset| match failed.remove(&offset) {
        Some(letter) => ReplayOutcome::Failed(Box::new(letter)),
        None if superseded.contains(&offset) => ReplayOutcome::Superseded,
        None => ReplayOutcome::Applied,
    };
    let replayed = asked
        .iter()
        .map(|request| Replayed { id: request.id, outcome: outcome(request.message.offset) });
    commit.replayed = replayed.chain(lost).collect();
    let mut counts: HashMap<&'static str, u64> = HashMap::new();
    for replayed in &commit.replayed {
        *counts.entry(replayed.outcome.as_str()).or_default() += 1;
    }
    for (outcome, count) in &counts {
        counter!(names::REPLAYED, "outcome" => *outcome).increment(*count);
    }
    info!(epoch = %commit.epoch, outcomes = ?counts, "dead letters are processed again");
}
