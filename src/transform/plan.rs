//! From files to plans: order, types, keys, and what each query reads.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;

use super::Transforms;
use super::functions::{WATERMARK, WatermarkCell};
use super::header::{Header, parse_header};
use super::live_table::{LiveTable, LiveTables};
use super::location::planning_error;
use super::maintain::Maintained;
use super::sql_file::{SqlError, SqlFile};
use crate::changelog::{ResultMode, ResultTable, Table};

/// What a query reads, as its plan says.
#[derive(Debug, Clone, Default)]
pub(super) struct Reads {
    pub(super) tables: BTreeSet<String>,
    pub(super) watermark: bool,
    /// The longest constant interval of a `date_bin`, microseconds.
    pub(super) window: Option<i64>,
}

/// A parsed file that waits for the results that it reads.
struct Pending<'a> {
    file: &'a SqlFile,
    header: Header,
    statement: Statement,
    references: HashSet<String>,
}

/// Plans all files, in the order of what they read.
pub(super) async fn plan(
    tables: &[Arc<Table>],
    files: &[SqlFile],
) -> Result<Transforms, Vec<SqlError>> {
    let watermark = WatermarkCell::default();
    let mut live = LiveTables::default();
    for table in tables {
        live.add_source(table);
    }
    let context = session(&live, &watermark);
    let state = context.state();
    let (mut pending, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        match parse(&state, file) {
            Ok(parsed) => pending.push(parsed),
            Err(error) => errors.push(error),
        }
    }
    let mut maintained: Vec<Maintained> = Vec::new();
    while !pending.is_empty() {
        let waiting: HashSet<String> = pending.iter().map(|p| p.file.name.clone()).collect();
        let ready = pending.iter().position(|p| p.references.is_disjoint(&waiting));
        let Some(ready) = ready else {
            errors.extend(pending.iter().map(|p| cycle(p, &waiting)));
            break;
        };
        let next = pending.swap_remove(ready);
        match plan_one(&state, &next, tables, &maintained).await {
            Ok(planned) => {
                let result = planned.table();
                let table = live.add(&result.name, Arc::clone(&result.schema));
                // A name that is taken was refused by `parse`.
                let _previous = context.register_table(&result.name, table);
                maintained.push(planned);
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(Transforms { state, tables: live, watermark, maintained })
    } else {
        Err(errors)
    }
}

fn session(live: &LiveTables, watermark: &WatermarkCell) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1);
    // Without spans an error can't name its line.
    config.options_mut().sql_parser.collect_spans = true;
    let mut context = SessionContext::new_with_config(config);
    context.register_udf(watermark.function());
    datafusion_functions_json::register_all(&mut context)
        .expect("a fresh session takes the JSON functions");
    for (name, table) in live.iter() {
        context
            .register_table(name.as_str(), Arc::<LiveTable>::clone(table))
            .expect("table names are unique");
    }
    context
}

fn parse<'a>(state: &SessionState, file: &'a SqlFile) -> Result<Pending<'a>, SqlError> {
    let header = parse_header(file)?;
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state
        .sql_to_statement(&file.text, &dialect)
        .map_err(|error| planning_error(file, &error))?;
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

async fn plan_one(
    state: &SessionState,
    pending: &Pending<'_>,
    tables: &[Arc<Table>],
    earlier: &[Maintained],
) -> Result<Maintained, SqlError> {
    let (file, header) = (pending.file, &pending.header);
    let is_taken = tables.iter().any(|t| t.name == file.name);
    if is_taken {
        return Err(
            file.error(None, format!("the name {} is that of a table; rename the file", file.name))
        );
    }
    if let Some(twin) = earlier.iter().find(|m| m.table().target == header.target) {
        let message =
            format!("writes {}, which {} writes already", header.target, twin.table().name);
        return Err(file.error(None, message));
    }
    let plan = state.statement_to_plan(pending.statement.clone()).await;
    let plan = plan.and_then(|plan| state.optimize(&plan));
    let plan = plan.map_err(|error| planning_error(file, &error))?;
    if matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Statement(_)) {
        return Err(file.error(None, "must be one SELECT"));
    }
    let reads = reads(&plan).map_err(|error| planning_error(file, &error))?;
    let schema = normalized(plan.schema().as_arrow());
    let mode = mode(file, header, &schema)?;
    let (name, target) = (file.name.clone(), header.target.clone());
    let definition = definition(file, &reads, tables, earlier);
    let table = Arc::new(ResultTable { name, target, schema, mode, definition });
    Maintained::new(file, table, plan, reads, tables)
}

fn mode(file: &SqlFile, header: &Header, schema: &SchemaRef) -> Result<ResultMode, SqlError> {
    if header.key.is_empty() {
        return Ok(ResultMode::Append);
    }
    let column = |name: &String| {
        schema.index_of(name).map_err(|_| {
            let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            file.error(
                None,
                format!("key column {name} is not among the columns {}", columns.join(", ")),
            )
        })
    };
    let key = header.key.iter().map(column).collect::<Result<_, _>>()?;
    Ok(ResultMode::Keyed { key })
}

/// The query's text and the definitions of what it reads.
fn definition(
    file: &SqlFile,
    reads: &Reads,
    tables: &[Arc<Table>],
    earlier: &[Maintained],
) -> String {
    let mut parts = vec![file.text.clone()];
    for name in &reads.tables {
        let table = tables.iter().find(|table| table.name == *name);
        let result = earlier.iter().find(|maintained| maintained.table().name == *name);
        parts.extend(table.map(|table| format!("-- {table:?}")));
        parts.extend(result.map(|maintained| maintained.table().definition.clone()));
    }
    parts.join("\n")
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

fn reads(plan: &LogicalPlan) -> DataFusionResult<Reads> {
    let mut reads = Reads::default();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            reads.tables.insert(scan.table_name.table().to_owned());
        }
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                read_function(inner, &mut reads);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(reads)
}

fn read_function(expr: &Expr, reads: &mut Reads) {
    let Expr::ScalarFunction(call) = expr else { return };
    match (call.func.name(), call.args.first()) {
        (WATERMARK, _) => reads.watermark = true,
        ("date_bin", Some(Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(i)), _))) => {
            const DAY: i64 = 86_400_000_000;
            let micros =
                i64::from(i.months) * 31 * DAY + i64::from(i.days) * DAY + i.nanoseconds / 1000;
            reads.window = reads.window.max(Some(micros));
        }
        _ => {}
    }
}
