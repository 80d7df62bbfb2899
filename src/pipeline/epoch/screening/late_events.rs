//! Events whose windows are closed: what the `late` option of their table says becomes of them.

use std::collections::{HashMap, HashSet};

use metrics::counter;

use crate::decode::Decoded;
use crate::model::{Changelog, Late, Message, Position};
use crate::pipeline::epoch::diversion::{ChangedRow, Diversion, take_out};
use crate::pipeline::error::PipelineError;
use crate::state::StateStores;
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
/// are to be landed and nothing else. A message with a late event is a dead letter as a whole.
///
/// `behind` are the events below the watermark when they came.
pub(crate) fn divert(
    stores: &StateStores,
    messages: &[Message],
    decoded: &mut Decoded,
    behind: &hashbrown::HashMap<Position, i64>,
) -> Result<Vec<Changelog>, PipelineError> {
    let (mut reasons, mut dropped) = (HashMap::new(), HashSet::new());
    for changelog in &decoded.changes {
        let late = stores.late(changelog, behind).into_iter().enumerate();
        for (row, _) in late.filter(|(_, is_late)| *is_late) {
            let outcome = outcome(ChangedRow { changelog, row });
            let table = changelog.table.name.clone();
            counter!(names::LATE_ROWS, "table" => table, "outcome" => outcome.as_str())
                .increment(1);
            match outcome {
                LateOutcome::Applied => {}
                LateOutcome::DeadLetter(reason) => {
                    let late = || Diversion::late(reason, &changelog.table);
                    reasons.entry(changelog.offsets[row]).or_insert_with(late);
                }
                LateOutcome::Dropped => drop(dropped.insert(changelog.positions[row])),
            }
        }
    }
    if !reasons.is_empty() {
        take_out(decoded, messages, reasons);
    }
    if dropped.is_empty() {
        return Ok(Vec::new());
    }
    separate(stores, decoded, &dropped)
}

fn outcome(change: ChangedRow<'_>) -> LateOutcome {
    match change.changelog.table.options.late {
        Late::Update => LateOutcome::Applied,
        Late::Drop => LateOutcome::Dropped,
        Late::Dlq => LateOutcome::DeadLetter(format!(
            "all windows of {change} are closed, so this change is not applied and the results keep their last \
             value, because the option late in sql/tables/{}.sql is 'dlq'",
            change.changelog.table.name,
        )),
    }
}

/// Splits the changes in those that are folded, which stay, and those that are landed only.
fn separate(
    stores: &StateStores,
    decoded: &mut Decoded,
    dropped: &HashSet<Position>,
) -> Result<Vec<Changelog>, PipelineError> {
    let mut landed_only = Vec::new();
    for changelog in std::mem::take(&mut decoded.changes) {
        let is_dropped: Vec<bool> =
            changelog.positions.iter().map(|at| dropped.contains(at)).collect();
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
