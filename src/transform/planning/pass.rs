//! One pass over the folder: each file in its turn, after those that it reads.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use super::parsed::{ParsedTransform, parse};
use super::query::{QueryScope, plan_query};
use super::session::session;
use super::temporal_join::TemporalJoinRewriter;
use super::undeclared::{ColumnResolver, MissingColumn};
use crate::model::TemporalJoin;
use crate::transform::files::SqlError;
use crate::transform::files::SqlFile;
use crate::transform::files::location::planning_error;
use crate::transform::live_table::LiveTables;
use crate::transform::transforms::Transforms;
use crate::transform::views::MaintainedView;
use crate::transform::views::reads::unstable_function;

/// Why a file has no plan.
pub(crate) enum Unplanned {
    Wrong(SqlError),
    /// It reads a column that its tables don't declare.
    Needs(MissingColumn),
    /// It reads a table that may come; what to say of it.
    Absent(SqlError),
}

impl From<SqlError> for Unplanned {
    fn from(error: SqlError) -> Self {
        Self::Wrong(error)
    }
}

/// What comes of planning all files once.
pub(crate) struct PlanningPass {
    pub(crate) transforms: Transforms,
    /// With the name of the file.
    pub(crate) wrong: Vec<(String, SqlError)>,
    pub(crate) needs: Vec<(String, MissingColumn)>,
    pub(crate) absent: Vec<(String, SqlError)>,
    /// Files that read one that has no plan, and its name.
    pub(crate) blocked: Vec<(String, String)>,
}

impl PlanningPass {
    /// Notes whether events have a say in a file, and whether it reads one that has no plan.
    fn note_blocked(
        &mut self,
        next: &ParsedTransform<'_>,
        resolver: &ColumnResolver,
        unplanned: &HashSet<String>,
    ) -> bool {
        let name = || next.file.name.clone();
        if resolver.has_taught(next, &self.transforms.learned) {
            self.transforms.learned.insert(name());
        }
        let read = next.references.intersection(unplanned).min();
        self.blocked.extend(read.map(|read| (name(), read.clone())));
        read.is_some()
    }
}

/// Plans all files, in the order of what they read.
pub(crate) async fn pass(resolver: &ColumnResolver, files: &[SqlFile]) -> PlanningPass {
    let mut pass = PlanningPass {
        transforms: Transforms::over(resolver.tables().to_vec()),
        wrong: Vec::new(),
        needs: Vec::new(),
        absent: Vec::new(),
        blocked: Vec::new(),
    };
    let context = session(&pass.transforms, resolver.none());
    pass.transforms.state = context.state();
    let mut pending = Vec::new();
    for file in files {
        match parse(&pass.transforms.state, file, resolver.tables()) {
            Ok(parsed) => pending.push(parsed),
            Err(error) => pass.wrong.push((file.name.clone(), error)),
        }
    }
    // Whoever reads a file that is wrong is not to blame, and can't be planned.
    let mut unplanned: HashSet<String> = files.iter().map(|file| file.name.clone()).collect();
    for parsed in &pending {
        unplanned.remove(&parsed.file.name);
    }
    while !pending.is_empty() {
        let waiting: HashSet<String> = pending.iter().map(|p| p.file.name.clone()).collect();
        let ready = pending.iter().position(|p| p.references.is_disjoint(&waiting));
        let Some(ready) = ready else {
            let cycles = pending.iter().map(|p| (p.file.name.clone(), cycle(p, &waiting)));
            pass.wrong.extend(cycles);
            break;
        };
        let next = pending.remove(ready);
        let name = next.file.name.clone();
        if pass.note_blocked(&next, resolver, &unplanned) {
            unplanned.insert(name);
            continue;
        }
        match plan_next(&next, resolver, &mut pass.transforms).await {
            Ok(planned) => {
                let result = planned.table();
                let table = pass.transforms.live.add(&result.name, Arc::clone(&result.schema));
                context
                    .register_table(result.name.as_str(), table)
                    .expect("a name that is taken was refused");
                pass.transforms.views.push(planned);
            }
            Err(why) => {
                unplanned.insert(name.clone());
                match why {
                    Unplanned::Wrong(error) => pass.wrong.push((name, error)),
                    Unplanned::Needs(missing) => pass.needs.push((name, missing)),
                    Unplanned::Absent(reason) => pass.absent.push((name, reason)),
                }
            }
        }
    }
    pass
}

/// Plans a file whose turn it is.
async fn plan_next(
    next: &ParsedTransform<'_>,
    resolver: &ColumnResolver,
    transforms: &mut Transforms,
) -> Result<MaintainedView, Unplanned> {
    let state = match resolver.of(&next.file.name) {
        Some(visible) => session(transforms, visible).state(),
        None => transforms.state.clone(),
    };
    let (plan, temporal_joins) = written(&state, next, resolver, &mut transforms.live).await?;
    let Transforms { tables, views, temporal_joins: all, .. } = transforms;
    let visible = resolver.of(&next.file.name).unwrap_or(resolver.none());
    let scope = QueryScope { tables, temporal_joins: &temporal_joins, visible };
    let view = plan_query(&state, next, &plan, scope, views).await?;
    let new: Vec<_> = temporal_joins.into_iter().filter(|e| !all.contains(e)).collect();
    all.extend(new);
    Ok(view)
}

fn cycle(pending: &ParsedTransform<'_>, waiting: &HashSet<String>) -> SqlError {
    let mut others: Vec<&str> =
        pending.references.intersection(waiting).map(String::as_str).collect();
    others.sort_unstable();
    let message = format!("is part of a circle, or reads one: it needs {}", others.join(", "));
    pending.file.error(None, message)
}

/// Whether what a query could not be planned for may come.
fn why_unplanned(
    resolver: &ColumnResolver,
    parsed: &ParsedTransform<'_>,
    error: &DataFusionError,
) -> Unplanned {
    if let Some(missing) = resolver.missing(parsed, error) {
        return Unplanned::Needs(missing);
    }
    match resolver.absent(parsed, error) {
        Some(reason) => Unplanned::Absent(reason),
        None => Unplanned::Wrong(planning_error(parsed.file, error)),
    }
}

/// The query as it is written, with look-up tables seen as of what they enrich.
async fn written(
    state: &SessionState,
    parsed: &ParsedTransform<'_>,
    resolver: &ColumnResolver,
    live: &mut LiveTables,
) -> Result<(LogicalPlan, Vec<Arc<TemporalJoin>>), Unplanned> {
    let (file, lookups, tables) = (parsed.file, &parsed.header.lookup, resolver.tables());
    let planned = state
        .statement_to_plan(parsed.statement.clone())
        .await
        .map_err(|error| why_unplanned(resolver, parsed, &error))?;
    if let Some(function) = unstable_function(&planned).map_err(|e| planning_error(file, &e))? {
        let message = format!(
            "calls {function}(), whose value depends on when it runs: the result could not be \
             computed again; for time use event times and watermark()"
        );
        return Err(file.error(None, message).into());
    }
    let mut rewriter = TemporalJoinRewriter { tables, lookups, live, found: Vec::new() };
    let rewritten = rewriter
        .rewrite(planned)
        .map_err(|error| file.error(lookups.at, error.find_root().strip_backtrace()))?;
    Ok((rewritten, rewriter.found))
}
