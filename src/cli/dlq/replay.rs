//! `tidemark dlq replay`: asks the processor, and tells what became of each letter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use tidemark_base::on_signal;

use super::filter::Filter;
use super::render::{self, print};
use crate::model::LetterStatus;
use crate::sink::postgres::{LetterFilter, LetterOrder, LetterState, LetterStore};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: Filter,
    /// The most letters, the oldest first.
    #[arg(long, default_value_t = i64::MAX, hide_default_value = true)]
    limit: i64,
    /// Without any filter: all that are dead.
    #[arg(long)]
    all: bool,
    /// Says which letters it would be, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for the next answer of the processor, or of an API. After that what the processor has not
    /// taken up is taken back.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    wait: humantime::Duration,
}

/// How often the table is looked at.
const INTERVAL: Duration = Duration::from_millis(300);

pub(super) async fn run(
    letters: &mut LetterStore,
    arguments: Arguments,
    json: bool,
) -> anyhow::Result<()> {
    if arguments.filter.is_empty() && !arguments.all {
        bail!("which ones? Give a filter, or --all");
    }
    let mut filter = arguments.filter.any_status()?;
    let settled = settled(letters, &filter).await?;
    filter.statuses = vec![LetterStatus::Dead];
    if arguments.dry_run {
        let found = letters.list(&filter, LetterOrder::Oldest, arguments.limit).await?;
        return print(&render::list(&found, json));
    }
    let asked = letters.request(&filter, arguments.limit).await?;
    if !json {
        let are_settled =
            if settled > 0 { format!(", {settled} are settled already") } else { String::new() };
        print(&format!("{} dead letters to replay{are_settled}\n", asked.len()))?;
    }
    let mut waiting: BTreeSet<i64> = asked.into_iter().collect();
    let counts = follow(letters, &mut waiting, *arguments.wait, json).await?;
    let left: Vec<i64> = waiting.into_iter().collect();
    let withdrawn = letters.withdraw(&left).await?;
    let queued = letters.answered(&left).await?;
    let queued: Vec<&LetterState> = queued.iter().filter(|state| is_queued(state)).collect();
    for state in &queued {
        print(&line(state, QUEUED, json))?;
    }
    let told: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    if !json && !told.is_empty() {
        print(&format!("{}\n", told.join(", ")))?;
    }
    if withdrawn > 0 {
        bail!(
            "{withdrawn} letters were not taken up within {}: no processor of this pipeline runs, or its target \
             is away. The request is taken back; start `tidemark run`, then replay again",
            arguments.wait
        );
    }
    if !queued.is_empty() {
        bail!(
            "{} requests wait in the outbox for the API, which has not answered within {}. They are posted when it \
             does: `tidemark dlq list --status queued` shows those that still wait",
            queued.len(),
            arguments.wait
        );
    }
    match counts.get(FAILED) {
        Some(count) => bail!("{count} letters are dead letters still; their messages say why"),
        None => Ok(()),
    }
}

const FAILED: &str = "failed again";
const QUEUED: &str = "queued for delivery";

/// It is back in the outbox, and the API has not answered about it.
fn is_queued(state: &LetterState) -> bool {
    state.status == LetterStatus::Queued
}

/// How many letters of the filter need no replay any more.
async fn settled(letters: &mut LetterStore, filter: &LetterFilter) -> anyhow::Result<i64> {
    let counts = letters.count(filter).await?;
    Ok(counts.iter().filter(|c| c.status.is_settled()).map(|c| c.count).sum())
}

/// Tells outcomes as they come; what `waiting` still holds at the end has none.
async fn follow(
    letters: &mut LetterStore,
    waiting: &mut BTreeSet<i64>,
    patience: Duration,
    json: bool,
) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let interrupted = on_signal()?;
    let mut counts = BTreeMap::new();
    let (mut last_answer, mut queued) = (Instant::now(), BTreeSet::new());
    while !waiting.is_empty() && last_answer.elapsed() < patience && !interrupted.is_cancelled() {
        let ids: Vec<i64> = waiting.iter().copied().collect();
        for state in letters.answered(&ids).await? {
            if is_queued(&state) {
                if queued.insert(state.id) {
                    last_answer = Instant::now();
                }
                continue;
            }
            last_answer = Instant::now();
            waiting.remove(&state.id);
            let outcome = outcome(&state);
            *counts.entry(outcome).or_default() += 1;
            print(&line(&state, outcome, json))?;
        }
        if !waiting.is_empty() {
            tokio::select! {
                () = interrupted.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }
    Ok(counts)
}

fn outcome(state: &LetterState) -> &'static str {
    if state.status.is_settled() { state.status.as_str() } else { FAILED }
}

fn line(state: &LetterState, outcome: &str, json: bool) -> String {
    let LetterState { id, event_id, phase, error_type, message, .. } = state;
    let has_failed = outcome == FAILED;
    if json {
        let reason = has_failed.then_some((error_type, message));
        let (error_type, message) = reason.unzip();
        let told = serde_json::json!({
            "id": id, "event_id": event_id, "outcome": outcome,
            "error_type": error_type, "error_message": message,
        });
        return format!("{told}\n");
    }
    if has_failed {
        return format!("{id}  {outcome}  {error_type}: {message}\n");
    }
    let why = match (outcome, phase.as_str(), event_id) {
        ("superseded", "rest", _) => "  a newer request of its key was delivered or waits",
        ("superseded", _, None) => "  the target holds what the row is today",
        ("superseded", _, Some(_)) => "  its rows, or newer versions of them, have landed",
        (QUEUED, ..) => "  it waits in the outbox",
        _ => "",
    };
    format!("{id}  {outcome}{why}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: LetterStatus) -> LetterState {
        LetterState {
            id: 7,
            event_id: Some("rmid1:1".to_owned()),
            phase: "schema".to_owned(),
            status,
            error_type: "SCHEMA_MISMATCH".to_owned(),
            message: "column amount".to_owned(),
        }
    }

    #[test]
    fn an_outcome_tells_a_reason_only_if_it_failed() {
        let (good, bad) = (state(LetterStatus::Replayed), state(LetterStatus::Dead));
        assert_eq!(line(&good, outcome(&good), false), "7  replayed\n");
        let told = line(&bad, outcome(&bad), false);
        assert_eq!(told, "7  failed again  SCHEMA_MISMATCH: column amount\n");
        let told: serde_json::Value =
            serde_json::from_str(&line(&good, outcome(&good), true)).unwrap();
        assert_eq!((&told["outcome"], &told["error_type"]), (&"replayed".into(), &().into()));
    }
}
