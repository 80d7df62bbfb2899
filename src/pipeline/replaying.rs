//! Dead letters that come back: somebody has marked them in the dead-letter table, and the processor takes
//! them up between two epochs as an epoch of their own.
//!
//! A row is applied only if no newer version of its key has landed. What became of each letter is written in
//! the transaction of its rows, so that a crash changes nothing and a second request finds nothing to do.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use metrics::counter;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::PipelineError;
use super::late::LandedRows;
use crate::config::Config;
use crate::decode::Decoded;
use crate::model::{
    Changelog, Channel, DeadLetter, EpochCommit, KeyBytes, Offset, Position, RefusedRequest,
    ReplayOutcome, ReplayRequest, Replayed, Resent, ResultTable,
};
use crate::resilience::chain;
use crate::sink::SinkError;
use crate::sink::postgres::LetterStore;
use crate::state::StateStores;
use crate::telemetry::names;

/// How often the table is looked at; the question costs an index look-up.
const INTERVAL: Duration = Duration::from_secs(1);
/// The most letters in one epoch.
const MOST: usize = 500;

/// Waits for requests and reads them.
pub(super) struct Replays {
    asked: mpsc::Receiver<()>,
    task: JoinHandle<()>,
    letters: Option<LetterStore>,
    /// Why the requests that are left are not looked at.
    given_up: Option<String>,
}

impl Replays {
    pub(super) fn watch(config: &Config) -> Self {
        let (sender, asked) = mpsc::channel(1);
        let store = || LetterStore::new(config.sink.postgres.clone(), config.pipeline.as_str());
        let task = tokio::spawn(watch(store(), sender));
        Self { asked, task, letters: Some(store()), given_up: None }
    }

    /// Somebody has asked. Cancel-safe.
    pub(super) async fn asked(&mut self) {
        if self.asked.recv().await.is_none() {
            // The watcher runs until it is dropped.
            std::future::pending::<()>().await;
        }
    }

    /// The next letters, in broker order; none while the table can't be read.
    pub(super) async fn take(&mut self, limit: Option<usize>) -> Vec<ReplayRequest> {
        let Some(letters) = &mut self.letters else { return Vec::new() };
        let limit = limit.unwrap_or(MOST).min(MOST);
        match letters.requests(limit as i64).await {
            Ok(requests) => {
                if requests.is_empty() {
                    self.given_up = None;
                }
                requests
            }
            Err(error) => {
                unreadable(&error);
                Vec::new()
            }
        }
    }

    /// The next refused requests, the oldest first; none while the table can't be read.
    pub(super) async fn take_refused(&mut self) -> Vec<RefusedRequest> {
        let Some(letters) = &mut self.letters else { return Vec::new() };
        let requests = letters.rest_requests(MOST as i64).await;
        requests.unwrap_or_else(|error| {
            unreadable(&error);
            Vec::new()
        })
    }

    /// Whether somebody wants refused rows of results put right.
    pub(super) async fn has_rows(&mut self) -> bool {
        let Some(letters) = &mut self.letters else { return false };
        match letters.result_requests(1).await {
            Ok(rows) => !rows.is_empty(),
            Err(error) => {
                unreadable(&error);
                false
            }
        }
    }

    /// So many letters in a row have failed that the ones that are left would as well.
    pub(super) fn give_up(&mut self, error: &PipelineError) {
        let reason = format!(
            "not tried, because too many in a row before it made a query fail, the last one with: {}; correct \
             the query, then replay again",
            chain(error)
        );
        warn!(reason, "a replay is given up");
        self.given_up = Some(reason);
    }

    pub(super) fn given_up(&self) -> Option<&str> {
        self.given_up.as_deref()
    }
}

impl Drop for Replays {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn unreadable(error: &SinkError) {
    warn!(error = chain(error), "dead letters can't be read for a replay; later again");
}

async fn watch(mut letters: LetterStore, sender: mpsc::Sender<()>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // While the target is away, others say so.
        if letters.has_requests().await.is_ok_and(|has| has) && sender.send(()).await.is_err() {
            return;
        }
    }
}

/// Takes out the rows of which a newer version has landed, and the messages that nothing is left of: these
/// are returned. To be asked when nothing is being committed. `None`: shutdown came before the target answered.
pub(super) async fn take_superseded(
    stores: &StateStores,
    landed: &mut LandedRows,
    decoded: &mut Decoded,
) -> Result<Option<HashSet<Offset>>, PipelineError> {
    let (mut gone, mut left) = (HashSet::new(), HashSet::new());
    for changelog in std::mem::take(&mut decoded.changes) {
        if changelog.table.options.extracted_from.is_some() {
            // Nothing comes of these rows without the row that they were extracted from.
            decoded.changes.push(changelog);
            continue;
        }
        let Some(newest) = newest_positions(stores, landed, &changelog).await? else {
            return Ok(None);
        };
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
    Ok(Some(gone))
}

/// Per row: where the newest change of its key is.
async fn newest_positions(
    stores: &StateStores,
    landed: &mut LandedRows,
    changelog: &Changelog,
) -> Result<Option<Vec<Option<Position>>>, PipelineError> {
    let table = &changelog.table;
    let keys = changelog.batch.project(&table.key).expect("the table has its key columns");
    let asked: Vec<(_, RecordBatch)> = vec![(Arc::clone(table), keys)];
    let Some(history) = landed.history(asked).await? else { return Ok(None) };
    let mut by_key: HashMap<KeyBytes, Position> = HashMap::new();
    for part in &history {
        for (key, position) in stores.row_keys(part)?.into_iter().zip(&part.positions) {
            let newest = by_key.entry(key).or_insert(*position);
            *newest = (*newest).max(*position);
        }
    }
    let known = stores.known_positions(changelog)?;
    let keys = stores.row_keys(changelog)?;
    let newest = |(key, known): (&KeyBytes, Option<Position>)| by_key.get(key).copied().max(known);
    Ok(Some(keys.iter().zip(known).map(newest).collect()))
}

/// Splits requests in those whose place among the landed changes is known, and the others with a reason.
pub(super) fn placed(
    asked: Vec<ReplayRequest>,
    position: impl Fn(Offset) -> Option<Position>,
) -> (Vec<ReplayRequest>, Vec<Replayed>) {
    let (mut placed, mut lost) = (Vec::new(), Vec::new());
    for request in asked {
        match position(request.message.offset) {
            Some(position) => placed.push((position, request)),
            None => {
                let reason = format!(
                    "message {} is of a spool that this queue never had, so that nobody can tell what is newer: \
                     publish its bytes again",
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
pub(super) fn resendable(
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
                        those of its key, so that nobody can tell what is newer: the next change of its row is posted"
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
pub(super) fn settle(
    commit: &mut EpochCommit,
    asked: &[ReplayRequest],
    superseded: &HashSet<Offset>,
    lost: Vec<Replayed>,
) {
    let letters = std::mem::take(&mut commit.dead_letters);
    let mut failed: HashMap<Offset, DeadLetter> =
        letters.into_iter().map(|letter| (letter.offset, letter)).collect();
    let outcome = |offset| match failed.remove(&offset) {
        Some(letter) => ReplayOutcome::Failed(Box::new(letter)),
        None if superseded.contains(&offset) => ReplayOutcome::Superseded,
        None => ReplayOutcome::Applied,
    };
    let mut outcome = outcome;
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

#[cfg(test)]
impl Replays {
    /// For sessions without a dead-letter table.
    pub(super) fn never() -> Self {
        let (_, asked) = mpsc::channel(1);
        let task = tokio::spawn(std::future::ready(()));
        Self { asked, task, letters: None, given_up: None }
    }
}
