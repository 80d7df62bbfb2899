//! From the plan of one query to its maintained view: result table, key, definition, and operators.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::TreeNode;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use super::channel;
use super::key_proof::{KnownTables, prove};
use super::parsed::ParsedTransform;
use super::undeclared::VisibleColumns;
use crate::model::{Channel, ResultMode, ResultTable, Table, TemporalJoin};
use crate::transform::dataflow::{
    CompileError, IndexRequests, KeyedResult, Multiset, Normalize, Readable, compile,
};
use crate::transform::files::header::Way;
use crate::transform::files::location::planning_error;
use crate::transform::files::{SqlError, SqlFile, changes_name};
use crate::transform::views::reads::{Reads, reads};
use crate::transform::views::{
    KeyProof, MaintainedView, Maintenance, PlannedQuery, Upkeep, ViewState,
};

/// What a query may read beside earlier results.
#[derive(Clone, Copy)]
pub(crate) struct QueryScope<'a> {
    pub(crate) tables: &'a [Arc<Table>],
    pub(crate) temporal_joins: &'a [Arc<TemporalJoin>],
    pub(crate) visible: &'a VisibleColumns,
}

/// Makes the view of one query, whose plan is as it is written.
///
/// # Errors
/// If names clash, its key or its mode is wrong, or it can't be run.
pub(crate) async fn plan_query(
    state: &SessionState,
    parsed: &ParsedTransform<'_>,
    written: &LogicalPlan,
    scope: QueryScope<'_>,
    earlier: &mut [MaintainedView],
) -> Result<MaintainedView, SqlError> {
    let (file, header, tables) = (parsed.file, &parsed.header, scope.tables);
    check_names(parsed, tables, earlier)?;
    let plan = state.optimize(written).map_err(|error| planning_error(file, &error))?;
    let reads = reads(&plan).map_err(|error| planning_error(file, &error))?;
    let schema = normalized(plan.schema().as_arrow());
    let changes = changes(tables, earlier);
    let reads_changes = !reads.tables.is_empty() && reads.tables.is_subset(&changes);
    let mode = channel::mode(file, header, &schema)?;
    let sources = source_tables(&reads, tables, earlier);
    let (mode, channel) = channel::channel(file, header, mode, reads_changes, sources)?;
    if channel == Channel::Table {
        check_target_names(file, &header.target, &schema)?;
    }
    let (name, target) = (file.name.clone(), header.target.clone());
    let definition = definition(file, &reads, scope, earlier);
    let table = Arc::new(ResultTable { name, target, channel, schema, mode, definition });
    let proof = proof(&plan, &table.mode, scope, earlier);
    let upkeep = if is_append(file, &table, &reads, &changes)? {
        let (maintenance, state) = (Maintenance::Append, ViewState::Append);
        Upkeep { maintenance, state, indexes: Vec::new() }
    } else {
        upkeep(&plan, &table, state, scope, earlier)
            .map_err(|error| planning_error(file, &error))?
    };
    if upkeep.state.runs_as_a_whole() {
        // Some of what can't be run is found by no step before this one, and must not wait for the first epoch.
        let physical = state.query_planner().create_physical_plan(&plan, state).await;
        physical.map_err(|error| planning_error(file, &error))?;
    }
    let path = file.path.display().to_string();
    MaintainedView::new(PlannedQuery { path, table, reads, plan, proof }, upkeep)
        .map_err(|error| file.error(None, format!("its rows can't be compared: {error}")))
}

/// The tables that a query reads, itself or by way of results, as the source names them.
fn source_tables(reads: &Reads, tables: &[Arc<Table>], earlier: &[MaintainedView]) -> Vec<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<&str> = reads.tables.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        let is_read =
            |table: &&Arc<Table>| table.name == *name || changes_name(&table.name) == *name;
        if let Some(table) = tables.iter().find(is_read) {
            names.insert(table.source.to_string());
        }
        if let Some(view) = earlier.iter().find(|view| view.table().name == *name) {
            open.extend(view.reads());
        }
    }
    names.into_iter().collect()
}

/// What is proven of the key of a result.
fn proof(
    plan: &LogicalPlan,
    mode: &ResultMode,
    scope: QueryScope<'_>,
    earlier: &[MaintainedView],
) -> KeyProof {
    let QueryScope { tables, temporal_joins, .. } = scope;
    let results: Vec<KeyedResult> = earlier.iter().filter_map(keyed).collect();
    match mode {
        ResultMode::Append => KeyProof::default(),
        ResultMode::Keyed { key } => {
            prove(plan, key, KnownTables { tables, temporal_joins, results: &results })
        }
    }
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
    QueryScope { tables, temporal_joins, .. }: QueryScope<'_>,
    earlier: &mut [MaintainedView],
) -> DataFusionResult<Upkeep> {
    let results: Vec<KeyedResult> = earlier.iter().filter_map(keyed).collect();
    let readable = Readable {
        state,
        tables: tables.iter().map(|table| (table.name.as_str(), table)).collect(),
        views: temporal_joins.iter().map(|e| (e.view.name.as_str(), &e.view)).collect(),
        results: results.iter().map(|result| (result.table.name.as_str(), result)).collect(),
    };
    let mut indexes = Indexes::new();
    let mut requests = IndexCollector { indexes: &mut indexes, earlier };
    match compile(plan, &readable, &mut requests) {
        Ok(tree) => {
            let lookups = describe(&indexes, tables);
            let maintenance = if has_groups(plan)? {
                Maintenance::ByGroup { lookups }
            } else {
                Maintenance::ByKey { lookups }
            };
            let root = Box::new(Normalize::new(tree, SchemaRef::clone(&table.schema)));
            Ok(Upkeep { maintenance, state: ViewState::Incremental { root }, indexes })
        }
        Err(CompileError::Recompute(reason)) => {
            let rows = Box::new(Multiset::new(&table.schema)?);
            let (maintenance, state) =
                (Maintenance::Recompute { reason }, ViewState::Recompute { rows });
            Ok(Upkeep { maintenance, state, indexes: Vec::new() })
        }
        Err(CompileError::Invalid(error)) => Err(error),
    }
}

/// A result that others can read as a table, and its key.
fn keyed(view: &MaintainedView) -> Option<KeyedResult> {
    match &view.table().mode {
        ResultMode::Keyed { key } => {
            Some(KeyedResult { table: Arc::clone(view.table()), key: key.clone() })
        }
        ResultMode::Append => None,
    }
}

/// Collects the indexes that a tree wants, its own and those that the results it reads must have.
struct IndexCollector<'a> {
    indexes: &'a mut Indexes,
    earlier: &'a mut [MaintainedView],
}

impl IndexRequests for IndexCollector<'_> {
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
        rest[0].prepare(columns, &mut IndexCollector { indexes: self.indexes, earlier })
    }
}

/// As in `orders (customer_id)`.
fn describe(indexes: &Indexes, tables: &[Arc<Table>]) -> Vec<String> {
    let names = |(name, columns): &(String, Vec<usize>)| {
        let table = tables.iter().find(|table| table.name == *name);
        let names: Vec<&str> = table
            .map(|table| columns.iter().map(|at| table.columns[*at].name.as_str()).collect())
            .unwrap_or_default();
        format!("{name} ({})", names.join(", "))
    };
    indexes.iter().map(names).collect()
}

fn has_groups(plan: &LogicalPlan) -> DataFusionResult<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_))))
}

/// What is written to PostgreSQL needs names that PostgreSQL can hold.
fn check_target_names(file: &SqlFile, target: &str, schema: &SchemaRef) -> Result<(), SqlError> {
    file.check_postgres_name("the target", target)?;
    for field in schema.fields() {
        file.check_postgres_name("column", field.name()).map_err(|error| {
            let message = format!("{}: rename it with AS", error.message);
            SqlError { message, ..error }
        })?;
    }
    Ok(())
}

/// Neither the file's name nor its target is anybody else's.
fn check_names(
    parsed: &ParsedTransform<'_>,
    tables: &[Arc<Table>],
    earlier: &[MaintainedView],
) -> Result<(), SqlError> {
    let (file, target) = (parsed.file, &parsed.header.target);
    let is_table = tables.iter().any(|t| t.name == file.name || changes_name(&t.name) == file.name);
    if is_table || earlier.iter().any(|m| m.table().name == file.name) {
        let message = format!("the name {} is that of a table; rename the file", file.name);
        return Err(file.error(None, message));
    }
    if matches!(parsed.header.way, Way::Rest { .. }) {
        return Ok(());
    }
    let is_twin =
        |m: &&MaintainedView| m.table().channel == Channel::Table && m.table().target == *target;
    let twin = earlier.iter().find(is_twin);
    let landed = tables.iter().find(|t| t.options.landing.target() == Some(target.as_str()));
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
fn changes(tables: &[Arc<Table>], earlier: &[MaintainedView]) -> BTreeSet<String> {
    let appended = earlier.iter().filter(|view| *view.maintenance() == Maintenance::Append);
    let names = appended.map(|view| view.table().name.clone());
    tables.iter().map(|table| changes_name(&table.name)).chain(names).collect()
}

/// The query's text and the definitions of what it reads.
fn definition(
    file: &SqlFile,
    reads: &Reads,
    scope: QueryScope<'_>,
    earlier: &[MaintainedView],
) -> String {
    let mut parts = vec![file.text.clone()];
    let views = scope.temporal_joins.iter().map(|temporal_join| &temporal_join.view);
    let tables: Vec<&Arc<Table>> = scope.tables.iter().chain(views).collect();
    for name in &reads.tables {
        let table = tables.iter().find(|table| table.name == *name);
        let result = earlier.iter().find(|view| view.table().name == *name);
        parts.extend(table.map(|table| declaration(table)));
        parts.extend(table.and_then(|table| scope.visible.description(table)));
        parts.extend(result.map(|view| view.table().definition.clone()));
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
