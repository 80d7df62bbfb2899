//! Which rows of an epoch the landing tables would refuse, before the epoch is folded.
//!
//! What the types of the columns tell costs no round trip. Of tables that have refused rows for another
//! reason the CHECK constraints are evaluated; if that is not enough, the rows are written in a transaction that is
//! rolled back.

use std::time::SystemTime;

use super::with_savepoints::try_out;
use crate::model::Changelog;
use crate::sink::postgres::PostgresSink;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::refused_rows::messages::of_landing;
use crate::sink::postgres::refused_rows::refusal::RowRefusal;
use crate::sink::postgres::refused_rows::type_checks::misfits;
use crate::sink::postgres::schema::landing_columns::target_name;
use crate::sink::postgres::target::row_write::RowWrite;
use crate::sink::{PreflightLevel, RefusedRow, SinkError};

/// Epochs in a row without a refused row after which a table is looked at less, and then not at all.
pub(crate) const TRIALS: u32 = 200;

pub(crate) async fn refused(
    sink: &mut PostgresSink,
    landing: &[Changelog],
) -> Result<Vec<RefusedRow>, SinkError> {
    let mut told = by_types(sink, landing)?;
    let has_told = told.iter().any(|refusals| !refusals.is_empty());
    if has_told || landing.iter().any(|changelog| is_tried(sink, changelog)) {
        let mut connection = sink.connect().await?;
        if has_told {
            // Somebody may have widened the column.
            sink.check_again(&connection).await?;
            told = by_types(sink, landing)?;
        }
        for (at, refusals) in tried(sink, &mut connection, landing).await? {
            told[at] = refusals;
        }
        sink.connection = Some(connection);
    }
    let mut rows = Vec::new();
    for (changelog, refusals) in landing.iter().zip(told) {
        let refused: Vec<RefusedRow> = refusals.iter().map(|r| of_landing(changelog, r)).collect();
        let first = refused.first().map_or("", |row| row.message.as_str());
        let counts = (refused.len(), changelog.len());
        let name = target_name(&changelog.table).unwrap_or(&changelog.table.name);
        sink.floods.note(name, counts, first)?;
        rows.extend(refused);
    }
    Ok(rows)
}

fn is_tried(sink: &PostgresSink, changelog: &Changelog) -> bool {
    sink.preflight_levels.contains_key(&changelog.table.name)
}

/// For each changelog the rows that the types of its target refuse.
fn by_types(sink: &PostgresSink, landing: &[Changelog]) -> Result<Vec<Vec<RowRefusal>>, SinkError> {
    let of_changelog = |changelog: &Changelog| {
        // The stamp fits, whatever it is.
        let row_write = sink.targets.landing_write(changelog, SystemTime::UNIX_EPOCH)?;
        Ok(row_write.map_or_else(Vec::new, |row_write| misfits(&row_write.rows)))
    };
    landing.iter().map(of_changelog).collect()
}

fn is_written(sink: &PostgresSink, changelog: &Changelog) -> bool {
    let level = sink.preflight_levels.get(&changelog.table.name);
    level.is_some_and(|(level, _)| *level == PreflightLevel::Trial)
}

/// A changelog to be looked at, by its place in the epoch.
struct TrialTask<'a> {
    at: usize,
    row_write: RowWrite<'a>,
    level: PreflightLevel,
}

/// Refused rows by the places of their changelogs.
type Found = Vec<(usize, Vec<RowRefusal>)>;

/// Looks at the rows of distrusted tables, those of two tables at the same time.
async fn tried(
    sink: &mut PostgresSink,
    connection: &mut Connection,
    landing: &[Changelog],
) -> Result<Found, SinkError> {
    let mut second = sink.second.take().filter(|second| !second.is_closed());
    let trials = landing.iter().filter(|changelog| is_written(sink, changelog)).count();
    if trials > 1 && second.is_none() && !sink.trials_conflict {
        second = Connection::open(&sink.config, &sink.deadline).await.ok();
        // One connection does it too.
        sink.trials_conflict = second.is_none();
    }
    let mut tasks = tasks(sink, landing)?;
    let others = match trials > 1 && !sink.trials_conflict {
        true => split_off_half(&mut tasks),
        false => Vec::new(),
    };
    let is_beside = !others.is_empty();
    let found = match &mut second {
        Some(second) if is_beside => {
            let (found, beside) = futures::join!(run(connection, &tasks), run(second, &others));
            found.and_then(|mut found| {
                found.extend(beside?);
                Ok(found)
            })
        }
        _ => run(connection, &tasks).await,
    };
    drop((tasks, others));
    // Triggers of two tables may wait for each other, and would again.
    sink.trials_conflict |= is_beside && matches!(found, Err(SinkError::Interrupted { .. }));
    let found = found?;
    sink.second = second;
    for (at, refusals) in &found {
        trust(sink, &landing[*at].table.name, refusals);
    }
    Ok(found)
}

fn tasks<'a>(
    sink: &'a PostgresSink,
    landing: &'a [Changelog],
) -> Result<Vec<TrialTask<'a>>, SinkError> {
    let mut tasks = Vec::new();
    for (at, changelog) in landing.iter().enumerate() {
        let Some((level, _)) = sink.preflight_levels.get(&changelog.table.name) else { continue };
        let row_write = sink.targets.landing_write(changelog, SystemTime::UNIX_EPOCH)?;
        tasks.extend(row_write.map(|row_write| TrialTask { at, row_write, level: *level }));
    }
    Ok(tasks)
}

/// Tasks with about half of the rows.
fn split_off_half<'a>(tasks: &mut Vec<TrialTask<'a>>) -> Vec<TrialTask<'a>> {
    tasks.sort_by_key(|task| std::cmp::Reverse(task.row_write.rows.count()));
    let (mut kept, mut others) = (Vec::new(), Vec::new());
    let (mut rows_kept, mut rows_of_others) = (0, 0);
    for task in tasks.drain(..) {
        let rows = task.row_write.rows.count();
        if rows_kept <= rows_of_others {
            rows_kept += rows;
            kept.push(task);
        } else {
            rows_of_others += rows;
            others.push(task);
        }
    }
    *tasks = kept;
    others
}

async fn run(connection: &mut Connection, tasks: &[TrialTask<'_>]) -> Result<Found, SinkError> {
    let mut found = Vec::new();
    for task in tasks {
        found.push((task.at, try_out(connection, &task.row_write, task.level).await?));
    }
    Ok(found)
}

/// How a table is looked at from now on, after these rows of it were refused.
fn trust(sink: &mut PostgresSink, name: &str, refusals: &[RowRefusal]) {
    let Some((level, left)) = sink.preflight_levels.get(name).copied() else { return };
    let needed = refusals.iter().map(|refusal| refusal.found_by).max();
    let next = match (level, needed) {
        (_, Some(needed)) if needed == level => Some((level, TRIALS)),
        (level, _) if left > 1 => Some((level, left - 1)),
        (PreflightLevel::Trial, _) => Some((PreflightLevel::Checks, TRIALS)),
        (PreflightLevel::Checks, _) => None,
    };
    match next {
        Some(next) => sink.preflight_levels.insert(name.to_owned(), next),
        None => sink.preflight_levels.remove(name),
    };
}
