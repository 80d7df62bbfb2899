//! Which rows of an epoch the landing tables would refuse, before the epoch is folded.
//!
//! What the types of the columns tell costs no round trip. Of tables that have refused rows for another
//! reason the CHECK constraints are evaluated; if that is not enough, the rows are written in a transaction that is
//! rolled back.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::SystemTime;

use super::with_savepoints::try_out;
use crate::model::Changelog;
use crate::resilience::FloodGauge;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::session::{Connector, DatabaseSession};
use crate::sink::postgres::refused_rows::messages::of_landing;
use crate::sink::postgres::refused_rows::refusal::RowRefusal;
use crate::sink::postgres::refused_rows::type_checks::landing_misfits;
use crate::sink::postgres::schema::landing_columns::{are_deletes, target_name};
use crate::sink::postgres::target::current::{self, Owner};
use crate::sink::postgres::target::row_write::RowWrite;
use crate::sink::postgres::targets::Targets;
use crate::sink::{PreflightLevel, RefusedRow, SinkError};

/// Epochs in a row without a refused row after which a table is looked at less, and then not at all.
const EPOCHS: u32 = 200;

/// What finds refused rows before they are applied, and where it has had to.
pub(crate) struct Preflight {
    /// By the names of tables that have refused rows, with how many epochs this lasts.
    levels: HashMap<String, (PreflightLevel, u32)>,
    floods: FloodGauge,
    connector: Connector,
    pipeline: String,
    /// For the rows of two tables at the same time; opened when that is needed.
    second_connection: Option<Connection>,
    /// The last look failed: the tables may not be as they were when they were checked.
    has_failed: bool,
    /// Trials of two tables have waited for each other: one after the other, from then on.
    trials_conflict: bool,
}

impl Preflight {
    pub(crate) fn new(connector: Connector, pipeline: String) -> Self {
        Self {
            levels: HashMap::new(),
            floods: FloodGauge::new(connector.config.max_refused_percent),
            connector,
            pipeline,
            second_connection: None,
            has_failed: false,
            trials_conflict: false,
        }
    }

    /// Looks at the rows of these tables, at least so.
    pub(crate) fn raise(&mut self, tables: &[(String, PreflightLevel)]) {
        for (table, level) in tables {
            let known = self.levels.get(table).map_or(level, |(known, _)| known);
            self.levels.insert(table.clone(), (*known.max(level), EPOCHS));
        }
    }

    pub(crate) async fn refused(
        &mut self,
        session: &mut DatabaseSession,
        targets: &mut Targets,
        landing: &[Changelog],
    ) -> Result<Vec<RefusedRow>, SinkError> {
        let doing = "looking for rows that are refused";
        let landing = &*current::newest(landing)?;
        let (mut rejected, mut tried) = (rejected_by_types(targets, landing)?, Vec::new());
        let is_stale = self.has_failed || rejected.iter().any(|refusals| !refusals.is_empty());
        if is_stale || landing.iter().any(|it| self.levels.contains_key(&it.table.name)) {
            let schema = session.schema().to_owned();
            let look = async |connection: &mut Connection| {
                if is_stale {
                    // The column may have been widened, or another one altered.
                    targets.refresh(connection, &schema).await?;
                    rejected = rejected_by_types(targets, landing)?;
                }
                let writes = self.trial_writes(targets, landing)?;
                self.try_out(connection, landing, &writes).await
            };
            let looked = session.with_connection(doing, look).await;
            self.has_failed = looked.is_err();
            tried = looked?;
        }
        for TrialResult { at, refusals } in tried {
            rejected[at] = refusals;
        }
        let mut rows = Vec::new();
        for (changelog, refusals) in landing.iter().zip(rejected) {
            let refused: Vec<RefusedRow> =
                refusals.iter().map(|refusal| of_landing(changelog, refusal)).collect();
            let first = refused.first().map_or("", |row| row.told.as_str());
            let name = target_name(&changelog.table).unwrap_or(&changelog.table.name);
            self.floods.note(name, refused.len(), changelog.len(), first)?;
            rows.extend(refused);
        }
        Ok(rows)
    }

    /// Looks at the rows of tables that have refused some, those of two tables at the same time.
    async fn try_out(
        &mut self,
        connection: &mut Connection,
        landing: &[Cow<'_, Changelog>],
        writes: &[Option<RowWrite<'_>>],
    ) -> Result<Vec<TrialResult>, SinkError> {
        let mut second = self.second_connection.take().filter(|second| !second.is_closed());
        let mut tasks = self.tasks(landing, writes);
        let trials = tasks.iter().filter(|task| task.level == PreflightLevel::Trial).count();
        if trials > 1 && second.is_none() && !self.trials_conflict {
            second = self.connector.open().await.ok();
            // One connection does it too.
            self.trials_conflict = second.is_none();
        }
        let is_divided = trials > 1 && !self.trials_conflict;
        let others = if is_divided { split_off_half(&mut tasks) } else { Vec::new() };
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
        // Triggers of two tables may wait for each other, and would again.
        self.trials_conflict |= is_beside && matches!(found, Err(SinkError::Interrupted { .. }));
        let found = found?;
        self.second_connection = second;
        for TrialResult { at, refusals } in &found {
            self.adapt(&landing[*at].table.name, refusals);
        }
        Ok(found)
    }

    /// The rows of tables that are tried out; the stamp fits, whatever it is.
    fn trial_writes<'a>(
        &self,
        targets: &'a Targets,
        landing: &'a [Cow<'a, Changelog>],
    ) -> Result<Vec<Option<RowWrite<'a>>>, SinkError> {
        let owner = Owner { schema: &self.connector.config.schema, pipeline: &self.pipeline };
        let encode = |changelog: &'a Cow<'a, Changelog>| {
            if !self.levels.contains_key(&changelog.table.name) {
                return Ok(None);
            }
            targets.landing_write(owner, changelog, SystemTime::UNIX_EPOCH)
        };
        landing.iter().map(encode).collect()
    }

    fn tasks<'a>(
        &self,
        landing: &[Cow<'_, Changelog>],
        writes: &'a [Option<RowWrite<'a>>],
    ) -> Vec<TrialTask<'a>> {
        let task =
            |(at, (changelog, write)): (usize, (&Cow<'_, Changelog>, &'a Option<RowWrite<'a>>))| {
                let (level, _) = self.levels.get(&changelog.table.name)?;
                let before = at.checked_sub(1).filter(|before| {
                    let before = &landing[*before];
                    before.table.name == changelog.table.name && are_deletes(before)
                });
                let before = before.and_then(|before| writes[before].as_ref());
                Some(TrialTask { at, before, row_write: write.as_ref()?, level: *level })
            };
        landing.iter().zip(writes).enumerate().filter_map(task).collect()
    }

    /// How a table is looked at from now on, after these rows of it were refused.
    fn adapt(&mut self, name: &str, refusals: &[RowRefusal]) {
        let Some((level, left)) = self.levels.get(name).copied() else { return };
        let needed = refusals.iter().map(|refusal| refusal.found_by).max();
        let next = match (level, needed) {
            (_, Some(needed)) if needed == level => Some((level, EPOCHS)),
            (level, _) if left > 1 => Some((level, left - 1)),
            (PreflightLevel::Trial, _) => Some((PreflightLevel::Checks, EPOCHS)),
            (PreflightLevel::Checks, _) => None,
        };
        match next {
            Some(next) => self.levels.insert(name.to_owned(), next),
            None => self.levels.remove(name),
        };
    }
}

/// For each changelog the rows that the types of its target refuse.
fn rejected_by_types(
    targets: &Targets,
    landing: &[Cow<'_, Changelog>],
) -> Result<Vec<Vec<RowRefusal>>, SinkError> {
    let misfits = |changelog: &Cow<'_, Changelog>| {
        if target_name(&changelog.table).is_none() {
            return Ok(Vec::new());
        }
        landing_misfits(changelog, targets.landing_of(&changelog.table)?)
    };
    landing.iter().map(misfits).collect()
}

/// A changelog to be looked at, by its place in the epoch.
struct TrialTask<'a> {
    at: usize,
    /// Deletes of the same table, which make room.
    before: Option<&'a RowWrite<'a>>,
    row_write: &'a RowWrite<'a>,
    level: PreflightLevel,
}

/// Its refused rows.
struct TrialResult {
    at: usize,
    refusals: Vec<RowRefusal>,
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

async fn run(
    connection: &mut Connection,
    tasks: &[TrialTask<'_>],
) -> Result<Vec<TrialResult>, SinkError> {
    let mut found = Vec::new();
    for task in tasks {
        let refusals = try_out(connection, task.before, task.row_write, task.level).await?;
        found.push(TrialResult { at: task.at, refusals });
    }
    Ok(found)
}
