//! Events whose windows are closed: what the `late` option of their table says becomes of them.

use std::collections::{HashMap, HashSet};

use arrow::temporal_conversions::timestamp_us_to_datetime;
use metrics::counter;

use crate::decode::Decoded;
use crate::model::{Changelog, Late, Message, Offset, Table};
use crate::pipeline::epoch::diversion::{Diversion, row_name, take_out};
use crate::pipeline::error::PipelineError;
use crate::state::{Lateness, StateStores};
use crate::telemetry::names;

/// What becomes of a late event.
enum Outcome {
    /// Results change.
    Applied,
    DeadLetter(String),
    /// Landed only.
    Dropped,
}

impl Outcome {
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
pub(in crate::pipeline) fn divert(
    stores: &StateStores,
    messages: &[Message],
    decoded: &mut Decoded,
    behind: &hashbrown::HashMap<Offset, i64>,
) -> Result<Vec<Changelog>, PipelineError> {
    let (mut reasons, mut dropped) = (HashMap::new(), HashSet::new());
    for changelog in &decoded.changes {
        for (row, lateness) in stores.late(changelog, behind)?.into_iter().enumerate() {
            let Some(lateness) = lateness else { continue };
            let outcome = outcome((changelog, row), &lateness);
            let table = changelog.table.name.clone();
            counter!(names::LATE_ROWS, "table" => table, "outcome" => outcome.as_str())
                .increment(1);
            let offset = changelog.offsets[row];
            match outcome {
                Outcome::Applied => {}
                Outcome::DeadLetter(reason) => drop(reasons.entry(offset).or_insert(reason)),
                Outcome::Dropped => drop(dropped.insert(offset)),
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

fn outcome((changelog, row): (&Changelog, usize), lateness: &Lateness) -> Outcome {
    let reason = || match lateness {
        Lateness::Closed => closed(changelog, row),
        Lateness::Forgotten { table, event_time } => {
            forgotten((changelog, row), (table, *event_time))
        }
    };
    match (changelog.table.options.late, lateness) {
        (Late::Update, Lateness::Closed) => Outcome::Applied,
        (Late::Drop, _) => Outcome::Dropped,
        (Late::Update | Late::Dlq, _) => Outcome::DeadLetter(reason()),
    }
}

fn closed(changelog: &Changelog, row: usize) -> String {
    let table = &changelog.table;
    format!(
        "all windows of {} are closed, so this change is not applied and the results keep their last \
         value, because the option late in sql/tables/{}.sql is 'dlq'",
        row_name(table, &changelog.batch, (&table.key, row)),
        table.name,
    )
}

fn forgotten(
    (changelog, row): (&Changelog, usize),
    (windows_of, event_time): (&Table, Option<i64>),
) -> String {
    let table = &changelog.table;
    let time = event_time.and_then(timestamp_us_to_datetime);
    let time = time.map_or_else(|| "no event time".to_owned(), |time| time.to_string());
    let whose = match windows_of.name == table.name {
        true => String::new(),
        false => format!("a row of table {} that is ", windows_of.name),
    };
    let ttl = humantime::format_duration(windows_of.options.ttl.unwrap_or_default()).to_string();
    format!(
        "{} is of {whose}{time}, and rows of its windows were dropped from memory after their ttl of \
         {ttl}, so this change is not applied and the results keep their last value: raise ttl in \
         sql/tables/{}.sql, then replay it (tidemark dlq replay)",
        row_name(table, &changelog.batch, (&table.key, row)),
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
