//! From files to plans: order, types and keys.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::TreeNode;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::dataflow::{Multiset, Normalize, Preparation, Readable, Refusal, compile};
use super::header::{Header, Way, parse_header};
use super::live_table::{LiveTables, changes_name};
use super::location::planning_error;
use super::lookup::Rewriter;
use super::maintain::{Maintained, Upkeep};
use super::reads::{Reads, reads, unstable_function};
use super::session::session;
use super::sql_file::{SqlError, SqlFile};
use super::undeclared::{Extras, Missing, Visible};
use super::{Maintenance, Transforms, channel, xml_table};
use crate::model::{Channel, Enrichment, Landing, ResultMode, ResultTable, Table};

/// A parsed file that waits for the results that it reads.
pub(super) struct Pending<'a> {
    pub(super) file: &'a SqlFile,
    header: Header,
    statement: Statement,
    pub(super) references: HashSet<String>,
}

/// Why a file has no plan.
pub(super) enum Unplanned {
    Wrong(SqlError),
    /// It reads a column that its tables don't declare.
    Needs(Missing),
    /// It reads a table that may come; what to say of it.
    Absent(SqlError),
}

impl From<SqlError> for Unplanned {
    fn from(error: SqlError) -> Self {
        Self::Wrong(error)
    }
}

/// What comes of planning all files once.
pub(super) struct Pass {
    pub(super) transforms: Transforms,
    /// With the name of the file.
    pub(super) wrong: Vec<(String, SqlError)>,
    pub(super) needs: Vec<(String, Missing)>,
    pub(super) absent: Vec<(String, SqlError)>,
    /// Files whose targets don't take their rows.
    pub(super) unfit: Vec<(String, SqlError)>,
    /// Files that read one that has no plan, and its name.
    pub(super) held: Vec<(String, String)>,
}

impl Pass {
    /// Whether a file waits, whatever its query says.
    fn sets_aside(
        &mut self,
        next: &Pending<'_>,
        extras: &Extras,
        unplanned: &HashSet<String>,
    ) -> bool {
        let name = || next.file.name.clone();
        if extras.has_taught(next, &self.transforms.learned) {
            self.transforms.learned.insert(name());
        }
        if let Some(reason) = extras.unfit.get(&next.file.name) {
            self.unfit.push((name(), next.file.error(None, reason.clone())));
            return true;
        }
        let read = next.references.intersection(unplanned).min();
        self.held.extend(read.map(|read| (name(), read.clone())));
        read.is_some()
    }
}

/// Plans all files, in the order of what they read.
pub(super) async fn pass(extras: &Extras, files: &[SqlFile]) -> Pass {
    let mut pass = Pass {
        transforms: Transforms::over(extras.tables().to_vec()),
        wrong: Vec::new(),
        needs: Vec::new(),
        absent: Vec::new(),
        unfit: Vec::new(),
        held: Vec::new(),
    };
    let context = session(&pass.transforms, extras.of_nobody());
    pass.transforms.state = context.state();
    let mut pending = Vec::new();
    for file in files {
        match parse(&pass.transforms.state, file, extras.tables()) {
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
        if pass.sets_aside(&next, extras, &unplanned) {
            unplanned.insert(name);
            continue;
        }
        match plan_next(&next, extras, &mut pass.transforms).await {
            Ok(planned) => {
                let result = planned.table();
                let table = pass.transforms.live.add(&result.name, Arc::clone(&result.schema));
                context
                    .register_table(result.name.as_str(), table)
                    .expect("a name that is taken was refused");
                pass.transforms.maintained.push(planned);
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
    next: &Pending<'_>,
    extras: &Extras,
    transforms: &mut Transforms,
) -> Result<Maintained, Unplanned> {
    let state = match extras.of(&next.file.name) {
        Some(visible) => session(transforms, visible).state(),
        None => transforms.state.clone(),
    };
    let (plan, enrichments) = written(&state, next, extras, &mut transforms.live).await?;
    let Transforms { tables, indexes, maintained, enrichments: all, .. } = transforms;
    let visible = extras.of(&next.file.name).unwrap_or(extras.of_nobody());
    let known = Known { tables, enrichments: &enrichments, indexes, visible };
    let planned = plan_one(&state, next, &plan, known, maintained).await?;
    let new: Vec<_> = enrichments.into_iter().filter(|e| !all.contains(e)).collect();
    all.extend(new);
    Ok(planned)
}

fn parse<'a>(
    state: &SessionState,
    file: &'a SqlFile,
    tables: &[Arc<Table>],
) -> Result<Pending<'a>, SqlError> {
    let header = parse_header(file)?;
    let dialect = state.config().options().sql_parser.dialect;
    let mut statement = state
        .sql_to_statement(&file.text, &dialect)
        .map_err(|error| planning_error(file, &error))?;
    let is_query =
        matches!(&statement, Statement::Statement(s) if matches!(**s, ast::Statement::Query(_)));
    if !is_query {
        return Err(file.error(None, "must be one SELECT"));
    }
    if let Statement::Statement(statement) = &mut statement {
        xml_table::rewrite(statement, tables).map_err(|(at, message)| file.error(at, message))?;
    }
    let references =
        state.resolve_table_references(&statement).map_err(|error| planning_error(file, &error))?;
    let references: HashSet<String> = references.iter().map(|r| r.table().to_owned()).collect();
    if references.contains(&file.name) {
        return Err(file.error(None, "reads itself; a transform is named like its file"));
    }
    Ok(Pending { file, header, statement, references })
}

fn cycle(pending: &Pending<'_>, waiting: &HashSet<String>) -> SqlError {
    let mut others: Vec<&str> =
        pending.references.intersection(waiting).map(String::as_str).collect();
    others.sort_unstable();
    let message = format!("is part of a circle, or reads one: it needs {}", others.join(", "));
    pending.file.error(None, message)
}

/// The query as it is written, with look-up tables seen as of what they enrich.
async fn written(
    state: &SessionState,
    pending: &Pending<'_>,
    extras: &Extras,
    live: &mut LiveTables,
) -> Result<(LogicalPlan, Vec<Arc<Enrichment>>), Unplanned> {
    let (file, lookups, tables) = (pending.file, &pending.header.lookup, extras.tables());
    let planned = state.statement_to_plan(pending.statement.clone()).await;
    let planned = planned.map_err(|error| match extras.missing(pending, &error) {
        Some(missing) => Unplanned::Needs(missing),
        None => match extras.absent(pending, &error) {
            Some(reason) => Unplanned::Absent(reason),
            None => Unplanned::Wrong(planning_error(file, &error)),
        },
    })?;
    if let Some(function) = unstable_function(&planned).map_err(|e| planning_error(file, &e))? {
        let message = format!(
            "calls {function}(), whose value depends on when it runs: the result could not be \
             computed again; for time use event times and watermark()"
        );
        return Err(file.error(None, message).into());
    }
    let mut rewriter = Rewriter { tables, lookups, live, found: Vec::new() };
    let rewritten = rewriter.rewrite(planned);
    let rewritten =
        rewritten.map_err(|error| file.error(lookups.at, error.find_root().strip_backtrace()))?;
    Ok((rewritten, rewriter.found))
}

/// What queries may read, and what they have the state keep.
struct Known<'a> {
    tables: &'a [Arc<Table>],
    enrichments: &'a [Arc<Enrichment>],
    indexes: &'a mut Indexes,
    visible: &'a Visible,
}

async fn plan_one(
    state: &SessionState,
    pending: &Pending<'_>,
    planned: &LogicalPlan,
    known: Known<'_>,
    earlier: &mut [Maintained],
) -> Result<Maintained, SqlError> {
    let (file, header, tables) = (pending.file, &pending.header, known.tables);
    check_names(pending, tables, earlier)?;
    let plan = state.optimize(planned).map_err(|error| planning_error(file, &error))?;
    let reads = reads(&plan).map_err(|error| planning_error(file, &error))?;
    let schema = normalized(plan.schema().as_arrow());
    let changes = changes(tables, earlier);
    let reads_changes = !reads.tables.is_empty() && reads.tables.is_subset(&changes);
    let mode = channel::mode(file, header, &schema)?;
    let (mode, channel) = channel::channel(file, header, mode, reads_changes)?;
    let (name, target) = (file.name.clone(), header.target.clone());
    let definition = definition(file, &reads, &known, earlier);
    let table = Arc::new(ResultTable { name, target, channel, schema, mode, definition });
    let upkeep = match is_append(file, &table, &reads, &changes)? {
        true => (Maintenance::Append, Upkeep::Append),
        false => upkeep(&plan, &table, state, known, earlier)
            .map_err(|error| planning_error(file, &error))?,
    };
    if upkeep.1.runs_as_a_whole() {
        // Some of what can't be run is found by no step before this one, and must not wait for the first epoch.
        let physical = state.query_planner().create_physical_plan(&plan, state).await;
        physical.map_err(|error| planning_error(file, &error))?;
    }
    let path = file.path.display().to_string();
    Maintained::new(path, table, (plan, reads), upkeep)
        .map_err(|error| file.error(None, format!("its rows can't be compared: {error}")))
}

/// Source tables and the columns of these that are looked up by.
type Indexes = Vec<(String, Vec<usize>)>;

/// Whether a result is appended; refuses what can be neither that nor kept.
fn is_append(
    file: &SqlFile,
    table: &ResultTable,
    reads: &Reads,
    changes: &BTreeSet<String>,
) -> Result<bool, SqlError> {
    let (from_changes, current): (Vec<_>, Vec<_>) =
        reads.tables.iter().cloned().partition(|name| changes.contains(name));
    let message = match (&table.mode, from_changes.is_empty(), current.is_empty()) {
        (ResultMode::Append, false, true) => return Ok(true),
        (ResultMode::Keyed { .. }, true, _) => return Ok(false),
        (ResultMode::Keyed { .. }, false, true) => {
            "reads changes only, which are appended: drop the `-- key:` line".to_owned()
        }
        (_, false, false) => format!(
            "reads both {} and {}: the result would depend on how events fall into batches; read \
             either changes or current tables",
            from_changes.join(", "),
            current.join(", ")
        ),
        (ResultMode::Append, true, _) => {
            "reads current rows, so it needs a `-- key: COLUMN, ...` line".to_owned()
        }
    };
    Err(file.error(None, message))
}

/// A tree of operators if there can be one; else the query as a whole.
fn upkeep(
    plan: &LogicalPlan,
    table: &ResultTable,
    state: &SessionState,
    Known { tables, enrichments, indexes, .. }: Known<'_>,
    earlier: &mut [Maintained],
) -> DataFusionResult<(Maintenance, Upkeep)> {
    let known: Vec<(Arc<ResultTable>, Vec<usize>)> = earlier.iter().filter_map(keyed).collect();
    let results = known.iter().map(|(t, key)| (t.name.as_str(), (&t.schema, key.as_slice())));
    let readable = Readable {
        state,
        tables: tables.iter().map(|table| (table.name.as_str(), table)).collect(),
        views: enrichments.iter().map(|e| (e.view.name.as_str(), &e.view)).collect(),
        results: results.collect(),
    };
    let mut wanted = Indexes::new();
    let mut preparation = Wanted { indexes: &mut wanted, earlier };
    match compile(plan, &readable, &mut preparation) {
        Ok(tree) => {
            let lookups = describe(&wanted, tables);
            let maintenance = match has_groups(plan)? {
                true => Maintenance::ByGroup { lookups },
                false => Maintenance::ByKey { lookups },
            };
            indexes.extend(wanted);
            let root = Box::new(Normalize::new(tree, SchemaRef::clone(&table.schema)));
            Ok((maintenance, Upkeep::Incremental { root }))
        }
        Err(Refusal::Recompute(reason)) => {
            let rows = Box::new(Multiset::new(&table.schema)?);
            Ok((Maintenance::Recompute { reason }, Upkeep::Recompute { rows }))
        }
        Err(Refusal::Invalid(error)) => Err(error),
    }
}

/// A result that others can read as a table, and its key.
fn keyed(maintained: &Maintained) -> Option<(Arc<ResultTable>, Vec<usize>)> {
    match &maintained.table().mode {
        ResultMode::Keyed { key } => Some((Arc::clone(maintained.table()), key.clone())),
        ResultMode::Append => None,
    }
}

/// Collects the indexes that a tree wants, its own and those that the results it reads must have.
struct Wanted<'a> {
    indexes: &'a mut Indexes,
    earlier: &'a mut [Maintained],
}

impl Preparation for Wanted<'_> {
    fn table(&mut self, name: &str, columns: &[usize]) {
        let mut columns = columns.to_vec();
        columns.sort_unstable();
        let wanted = (name.to_owned(), columns);
        if !self.indexes.contains(&wanted) {
            self.indexes.push(wanted);
        }
    }

    fn result(&mut self, name: &str, columns: &[usize]) -> bool {
        let Some(at) = self.earlier.iter().position(|m| m.table().name == name) else {
            return false;
        };
        let (earlier, rest) = self.earlier.split_at_mut(at);
        rest[0].prepare(columns, &mut Wanted { indexes: self.indexes, earlier })
    }
}

/// As in `orders (customer_id)`.
fn describe(indexes: &Indexes, tables: &[Arc<Table>]) -> Vec<String> {
    let names = |(name, columns): &(String, Vec<usize>)| {
        let table = tables.iter().find(|table| table.name == *name);
        let columns = table.map(|table| {
            let columns = columns.iter().map(|column| table.columns[*column].name.as_str());
            columns.collect::<Vec<_>>().join(", ")
        });
        format!("{name} ({})", columns.unwrap_or_default())
    };
    indexes.iter().map(names).collect()
}

fn has_groups(plan: &LogicalPlan) -> DataFusionResult<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_))))
}

/// Neither the file's name nor its target is anybody else's.
fn check_names(
    pending: &Pending<'_>,
    tables: &[Arc<Table>],
    earlier: &[Maintained],
) -> Result<(), SqlError> {
    let (file, target) = (pending.file, &pending.header.target);
    let is_table = tables.iter().any(|t| t.name == file.name || changes_name(&t.name) == file.name);
    if is_table || earlier.iter().any(|m| m.table().name == file.name) {
        let message = format!("the name {} is that of a table; rename the file", file.name);
        return Err(file.error(None, message));
    }
    if matches!(pending.header.way, Way::Rest { .. }) {
        return Ok(());
    }
    let is_twin =
        |m: &&Maintained| m.table().channel == Channel::Table && m.table().target == *target;
    let twin = earlier.iter().find(is_twin);
    let landing = Landing::History(target.clone());
    let landed = tables.iter().find(|t| t.options.landing == landing);
    match (twin.map(|m| &m.table().name), landed) {
        (None, None) => Ok(()),
        (Some(twin), _) => {
            Err(file.error(None, format!("writes {target}, which {twin} writes already")))
        }
        (None, Some(table)) => {
            let message = format!("writes {target}, where the changes of {} land", table.name);
            Err(file.error(None, message))
        }
    }
}

/// The names of what shows the rows of one epoch alone: changelogs, and what is appended from them.
fn changes(tables: &[Arc<Table>], earlier: &[Maintained]) -> BTreeSet<String> {
    let appended = earlier.iter().filter(|m| *m.maintenance() == Maintenance::Append);
    let appended = appended.map(|m| m.table().name.clone());
    tables.iter().map(|table| changes_name(&table.name)).chain(appended).collect()
}

/// The query's text and the definitions of what it reads.
fn definition(file: &SqlFile, reads: &Reads, known: &Known<'_>, earlier: &[Maintained]) -> String {
    let mut parts = vec![file.text.clone()];
    let views = known.enrichments.iter().map(|enrichment| &enrichment.view);
    let tables: Vec<&Arc<Table>> = known.tables.iter().chain(views).collect();
    for name in &reads.tables {
        let table = tables.iter().find(|table| table.name == *name);
        let result = earlier.iter().find(|maintained| maintained.table().name == *name);
        parts.extend(table.map(|table| declaration(table)));
        parts.extend(table.and_then(|table| known.visible.description(table)));
        parts.extend(result.map(|maintained| maintained.table().definition.clone()));
    }
    parts.join("\n")
}

/// What of a table's declaration decides on the rows of a result; ttl and landing don't.
fn declaration(table: &Table) -> String {
    let Table { name, source, key, options, .. } = table;
    let columns = table.declared();
    format!("-- {name} {source} {columns:?} key {key:?} event time {:?}", options.event_time)
}

/// One Arrow type per kind of value, so that sinks and diffs don't meet every encoding of a text.
fn normalized(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
            DataType::Timestamp(_, zone) => {
                DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            DataType::UInt64 | DataType::UInt32 => DataType::Int64,
            DataType::UInt16 => DataType::Int32,
            DataType::Int8 | DataType::UInt8 => DataType::Int16,
            DataType::Float32 => DataType::Float64,
            other => other.clone(),
        };
        Field::new(field.name(), data_type, true)
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}
