//! Events whose windows are closed: what the `late` option of their table says becomes of them.

use std::collections::{HashMap, HashSet};

use arrow::temporal_conversions::timestamp_us_to_datetime;
use metrics::counter;

use crate::decode::Decoded;
use crate::model::{Changelog, Late, Message, Offset, Table};
use crate::pipeline::epoch::diversion::{ChangedRow, Diversion, take_out};
use crate::pipeline::error::PipelineError;
use crate::state::{Lateness, StateStores};
use crate::telemetry::names;

/// What becomes of a late event.
enum LateOutcome {
    /// Results change.
    Applied,
    DeadLetter(String),
    /// Landed only.
    Dropped,
}

impl LateOutcome {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::DeadLetter(_) => "dead_letter",
            Self::Dropped => "dropped",
        }
    }
}

/// Takes the late ones out of the epoch's changes: into its dead letters, or returned as changes that
/// are to be landed and nothing else. A message is late as a whole.
///
/// `behind` are the events below the watermark when they came.
pub(crate) fn divert(
    stores: &StateStores,
    messages: &[Message],
    decoded: &mut Decoded,
    behind: &hashbrown::HashMap<Offset, i64>,
) -> Result<Vec<Changelog>, PipelineError> {
    let (mut reasons, mut dropped) = (HashMap::new(), HashSet::new());
    for changelog in &decoded.changes {
        for (row, lateness) in stores.late(changelog, behind)?.into_iter().enumerate() {
            let Some(lateness) = lateness else { continue };
            let outcome = outcome(ChangedRow { changelog, row }, &lateness);
            let table = changelog.table.name.clone();
            counter!(names::LATE_ROWS, "table" => table, "outcome" => outcome.as_str())
                .increment(1);
            let offset = changelog.offsets[row];
            match outcome {
                LateOutcome::Applied => {}
                LateOutcome::DeadLetter(reason) => drop(reasons.entry(offset).or_insert(reason)),
                LateOutcome::Dropped => drop(dropped.insert(offset)),
            }
        }
    }
    if !reasons.is_empty() {
        let late = reasons.into_iter().map(|(offset, reason)| (offset, Diversion::late(reason)));
        take_out(decoded, messages, late.collect());
    }
    if dropped.is_empty() {
        return Ok(Vec::new());
    }
    separate(stores, decoded, &dropped)
}

fn outcome(change: ChangedRow<'_>, lateness: &Lateness) -> LateOutcome {
    let reason = || match lateness {
        Lateness::Closed => closed(change),
        Lateness::Forgotten { table, event_time } => forgotten(change, table, *event_time),
    };
    match (change.changelog.table.options.late, lateness) {
        (Late::Update, Lateness::Closed) => LateOutcome::Applied,
        (Late::Drop, _) => LateOutcome::Dropped,
        (Late::Update | Late::Dlq, _) => LateOutcome::DeadLetter(reason()),
    }
}

fn closed(change: ChangedRow<'_>) -> String {
    format!(
        "all windows of {change} are closed, so this change is not applied and the results keep their last \
         value, because the option late in sql/tables/{}.sql is 'dlq'",
        change.changelog.table.name,
    )
}

fn forgotten(change: ChangedRow<'_>, windows_of: &Table, event_time: Option<i64>) -> String {
    let time = event_time.and_then(timestamp_us_to_datetime);
    let time = time.map_or_else(|| "no event time".to_owned(), |time| time.to_string());
    let whose = if windows_of.name == change.changelog.table.name {
        String::new()
    } else {
        format!("a row of table {} that is ", windows_of.name)
    };
    let ttl = humantime::format_duration(windows_of.options.ttl.unwrap_or_default()).to_string();
    format!(
        "{change} is of {whose}{time}, and rows of its windows were dropped from memory after their ttl of \
         {ttl}, so this change is not applied and the results keep their last value: raise ttl in \
         sql/tables/{}.sql, then replay it (tidemark dlq replay)",
        windows_of.name,
    )
}

/// Splits the changes in those that are folded, which stay, and those that are landed only.
fn separate(
    stores: &StateStores,
    decoded: &mut Decoded,
    dropped: &HashSet<Offset>,
) -> Result<Vec<Changelog>, PipelineError> {
    let mut landed_only = Vec::new();
    for changelog in std::mem::take(&mut decoded.changes) {
        let is_dropped: Vec<bool> =
            changelog.offsets.iter().map(|offset| dropped.contains(offset)).collect();
        if !is_dropped.contains(&true) {
            decoded.changes.push(changelog);
            continue;
        }
        let is_kept: Vec<bool> = is_dropped.iter().map(|is_dropped| !is_dropped).collect();
        let mut late = changelog.clone().without(&is_kept);
        late.truncations.clear();
        stores.fill_unchanged(&mut late)?;
        landed_only.push(late);
        let rest = changelog.without(&is_dropped);
        decoded.changes.extend((!rest.is_empty()).then_some(rest));
    }
    Ok(landed_only)
}
