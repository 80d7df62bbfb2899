//! Columns of landing tables for fields that no file declares: `ALTER TABLE`, in transactions of its own.
//!
//! The catalog says which columns there are, the registry which there should be, so a step that failed is tried
//! again at the next start and a step that was done is not. Without its column a field is in `extra_fields`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};

use super::catalog::{self, CatalogTable};
use super::column_types::{field_type, type_name};
use super::landing_columns::{self, target_name};
use super::system_tables::{LEDGER, SCHEMA_CHANGES};
use crate::model::{
    FieldType, NewColumns, PromotedColumn, SchemaChange, SchemaChangeKind, Table, column_name,
};
use crate::resilience::{Recovery, chain};
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;

const DOING: &str = "altering a landing table";
/// How long everybody else waits behind a statement that waits for its lock.
const LOCK_TIMEOUT: &str = "2s";
const ATTEMPTS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Columns that a field has had.
const MAX_VERSIONS: usize = 9;

/// What became of the landing tables.
#[derive(Debug, Default)]
pub struct Altered {
    /// All of them, with the columns that fields have.
    pub tables: Vec<Arc<Table>>,
    pub done: Vec<SchemaChange>,
    pub failed: Vec<FailedAlter>,
}

/// A column that is not there, or not as it should be.
#[derive(Debug)]
pub struct FailedAlter {
    pub table: String,
    pub column: String,
    pub reason: String,
}

/// A step of a landing table.
#[derive(Debug, PartialEq)]
struct AlterStep {
    /// Its column among the promoted ones.
    promoted: usize,
    field_type: FieldType,
    is_new: bool,
}

/// Whose landing tables may be altered, if at all.
#[derive(Clone, Copy)]
pub(crate) struct AlterScope<'a> {
    pub(crate) schema: &'a str,
    pub(crate) pipeline: &'a str,
    pub(crate) may_alter: bool,
}

/// A landing table, and the fields that events have shown.
struct FieldsOfTable<'a> {
    scope: AlterScope<'a>,
    /// Of the landing table.
    name: &'a str,
    table: &'a Table,
    fields: &'a [&'a SchemaChange],
}

/// Gives fields their columns where tables want it.
///
/// # Errors
/// If the target is away.
pub(crate) async fn alter(
    connection: &mut Connection,
    scope: AlterScope<'_>,
    tables: &[Arc<Table>],
    registry: &[SchemaChange],
) -> Result<Altered, SinkError> {
    let mut altered = Altered::default();
    for table in tables {
        let is_altered = |change: &SchemaChange| {
            change.kind == SchemaChangeKind::Altered && change.source == table.source
        };
        let alters = scope.may_alter && table.options.new_columns == NewColumns::Alter;
        // Whoever does not want more of them still has those that are there.
        let name = target_name(table).filter(|_| alters || registry.iter().any(is_altered));
        let mut table = Arc::clone(table);
        if let Some(name) = name.map(str::to_owned) {
            let read = catalog::read(&connection.client, scope.schema, &name).await;
            if let Some(catalog) = read.map_err(|error| classify(DOING, error))? {
                let fields = fields(&table, registry);
                let (mut promoted, steps) = plan(&table, &catalog, &fields);
                let steps = if alters { steps } else { forgo(&mut promoted, &steps) };
                let of = FieldsOfTable { scope, name: &name, table: &table, fields: &fields };
                take(connection, &of, &mut promoted, steps, &mut altered).await?;
                Arc::make_mut(&mut table).learned.promoted = promoted;
            }
        }
        altered.tables.push(table);
    }
    Ok(altered)
}

/// The fields that events of a table have shown, with the newest entry of each, oldest fields first.
fn fields<'a>(table: &Table, registry: &'a [SchemaChange]) -> Vec<&'a SchemaChange> {
    let mut fields: Vec<&SchemaChange> = Vec::new();
    for change in registry.iter().filter(|change| change.source == table.source) {
        match (change.kind, fields.iter().position(|known| known.column == change.column)) {
            (SchemaChangeKind::Added | SchemaChangeKind::Widened, Some(at)) => fields[at] = change,
            (SchemaChangeKind::Added | SchemaChangeKind::Widened, None) => fields.push(change),
            _ => {}
        }
    }
    fields
}

/// The columns of the fields, oldest versions first, and what has to be done for them.
fn plan(
    table: &Table,
    catalog: &CatalogTable,
    fields: &[&SchemaChange],
) -> (Vec<PromotedColumn>, Vec<AlterStep>) {
    let own = landing_columns::ALL.iter();
    let own = own.flat_map(|name| [(*name).to_owned(), table.free_name(name)]);
    let declared = table.declared().iter().map(|column| column.name.clone());
    let mut taken: HashSet<String> = own.chain(declared).collect();
    let (mut promoted, mut steps) = (Vec::new(), Vec::new());
    for change in fields {
        let Some(wanted) = change.seen.field_type() else { continue };
        let Some(base) = column_name(&change.column).filter(|name| !taken.contains(name)) else {
            continue;
        };
        let versions = (2..=MAX_VERSIONS).map(|version| format!("{base}__v{version}"));
        let names = std::iter::once(base.clone()).chain(versions);
        let names =
            names.filter(|name| name.len() <= landing_columns::MAX_NAME && !taken.contains(name));
        for column in names.collect::<Vec<_>>() {
            let field = change.column.clone();
            let mut promote = |field_type| {
                let (field, column) = (field.clone(), column.clone());
                promoted.push(PromotedColumn { field, column, field_type });
                promoted.len() - 1
            };
            let Some(there) = catalog.columns.get(&column) else {
                let promoted = promote(wanted);
                steps.push(AlterStep { promoted, field_type: wanted, is_new: true });
                taken.insert(column);
                break;
            };
            let is_ours = there.is_nullable && !there.is_generated;
            let Some(known) = field_type(&there.type_name).filter(|_| is_ours) else { continue };
            let at = promote(known);
            taken.insert(column.clone());
            if known.takes(wanted) {
                break;
            }
            if wanted.takes(known) && wanted != FieldType::Json {
                steps.push(AlterStep { promoted: at, field_type: wanted, is_new: false });
                break;
            }
        }
    }
    (promoted, steps)
}

/// Does without the steps.
fn forgo(promoted: &mut Vec<PromotedColumn>, steps: &[AlterStep]) -> Vec<AlterStep> {
    let missing = steps.iter().filter(|step| step.is_new).map(|step| step.promoted);
    let missing: HashSet<usize> = missing.collect();
    let mut at = 0..;
    promoted.retain(|_| !at.next().is_some_and(|at| missing.contains(&at)));
    Vec::new()
}

/// Takes the steps; what can't be done is taken back from `promoted`.
async fn take(
    connection: &mut Connection,
    of: &FieldsOfTable<'_>,
    promoted: &mut Vec<PromotedColumn>,
    steps: Vec<AlterStep>,
    altered: &mut Altered,
) -> Result<(), SinkError> {
    let FieldsOfTable { scope, name, table, fields } = *of;
    let (mut missing, mut given_up) = (HashSet::new(), None);
    for step in steps {
        let AlterStep { promoted: at, field_type, is_new } = step;
        let PromotedColumn { field, column, .. } = promoted[at].clone();
        let Some(taught) = fields.iter().find(|change| change.column == field) else { continue };
        let change = SchemaChange {
            source: table.source.clone(),
            column: column.clone(),
            kind: SchemaChangeKind::Altered,
            seen: field_type.into(),
            offset: taught.offset,
        };
        let sql = statement(&quote::table(scope.schema, name), &column, &step);
        let failed = match given_up.clone() {
            Some(reason) => Some(reason),
            None => match attempt(connection, scope, &sql, &change).await? {
                Some(error) => {
                    let reason = chain(&error);
                    // Another wait for a lock of the table would take as long.
                    given_up = (error.recovery() == Recovery::Retry).then(|| reason.clone());
                    Some(reason)
                }
                None => None,
            },
        };
        match failed {
            None => {
                promoted[at].field_type = field_type;
                altered.done.push(change);
            }
            Some(reason) => {
                if is_new {
                    missing.insert(column.clone());
                }
                altered.failed.push(FailedAlter { table: name.to_owned(), column, reason });
            }
        }
    }
    promoted.retain(|promoted| !missing.contains(&promoted.column));
    Ok(())
}

fn statement(table: &str, column: &str, step: &AlterStep) -> String {
    let sql_type = match step.field_type {
        FieldType::Json => None,
        FieldType::Known(known) => type_name(&known.data_type()),
    };
    let sql_type = sql_type.unwrap_or_else(|| FieldType::Json.to_string());
    let column = quote::ident(column);
    if step.is_new {
        format!("ALTER TABLE {table} ADD COLUMN {column} {sql_type}")
    } else {
        format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE {sql_type}")
    }
}

/// Runs a statement and writes it down, or says what is wrong with it; a lock that others hold is waited for a few
/// times.
async fn attempt(
    connection: &mut Connection,
    scope: AlterScope<'_>,
    sql: &str,
    change: &SchemaChange,
) -> Result<Option<SinkError>, SinkError> {
    let mut wait = FIRST_WAIT;
    for attempt in 1.. {
        let Err(error) = run(connection, scope, sql, change).await else { return Ok(None) };
        if connection.is_closed() {
            return Err(error);
        }
        connection.roll_back().await.map_err(|error| classify(DOING, error))?;
        if error.recovery() != Recovery::Retry || attempt >= ATTEMPTS {
            return Ok(Some(error));
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    Ok(None)
}

async fn run(
    connection: &mut Connection,
    scope: AlterScope<'_>,
    sql: &str,
    change: &SchemaChange,
) -> Result<(), SinkError> {
    let AlterScope { schema, pipeline, .. } = scope;
    let failed = |error| classify(DOING, error);
    let limit = format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'");
    connection.begin("", &limit).await.map_err(failed)?;
    let altered = connection.client.batch_execute(sql);
    connection.deadline.record_after(altered).await.map_err(failed)?;
    let journal = format!(
        "INSERT INTO {} (pipeline, epoch, source_schema, source_table, column_name, change, seen_type, event_id) \
         SELECT $1, COALESCE((SELECT max(epoch) FROM {} WHERE pipeline = $1), 0), $2, $3, $4, $5, $6, $7",
        quote::table(schema, SCHEMA_CHANGES),
        quote::table(schema, LEDGER),
    );
    let (kind, seen, event) =
        (change.kind.as_str(), change.seen.to_string(), change.offset.to_string());
    let texts: [&(dyn ToSql + Sync); 7] = [
        &pipeline,
        &change.source.schema,
        &change.source.table,
        &change.column,
        &kind,
        &seen,
        &event,
    ];
    let params: Vec<(&(dyn ToSql + Sync), Type)> =
        texts.into_iter().map(|text| (text, Type::TEXT)).collect();
    connection.client.execute_typed(&journal, &params).await.map_err(failed)?;
    connection.commit().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::datatypes::DataType;

    use super::*;
    use crate::model::{
        Column, Landing, LearnedColumns, Offset, SeenType, SourceTable, SureType, TableOptions,
        TableOrigin,
    };
    use crate::sink::postgres::schema::catalog::{CatalogColumn, ColumnLimits};
    use crate::sink::postgres::schema::relation::RelationTraits;
    use crate::sink::postgres::schema::text_rules::BaseType;
    use crate::sink::postgres::schema::wire_format::Wire;

    const MONEY: SureType = SureType::Decimal { scale: 2 };

    fn table() -> Table {
        let landing = Landing::History("cdc_t".to_owned());
        let id = Column { name: "id".to_owned(), data_type: DataType::Int64, nullable: false };
        Table {
            name: "t".to_owned(),
            source: SourceTable { schema: "S".to_owned(), table: "T".to_owned() },
            columns: vec![id],
            key: vec![0],
            options: TableOptions { landing, ..TableOptions::default() },
            origin: TableOrigin::Declared,
            learned: LearnedColumns::default(),
        }
    }

    fn catalog(columns: &[(&str, &str)]) -> CatalogTable {
        let column = |(name, type_name): &(&str, &str)| {
            let column = CatalogColumn {
                type_name: (*type_name).to_owned(),
                bare_type: (*type_name).to_owned(),
                base_type: (*type_name).to_owned(),
                wire: Wire::Text,
                base: BaseType { oid: 0, name: (*type_name).to_owned(), is_enum: false },
                loose_collation: None,
                is_domain: false,
                is_required: false,
                is_nullable: true,
                is_generated: false,
                limits: ColumnLimits::default(),
            };
            ((*name).to_owned(), column)
        };
        let columns: HashMap<_, _> = columns.iter().map(column).collect();
        let (unique_keys, checks) = (Vec::new(), Vec::new());
        let traits = RelationTraits::default();
        CatalogTable { columns, unique_keys, checks, traits, fingerprint: String::new() }
    }

    fn seen(column: &str, seen: SeenType) -> SchemaChange {
        let (source, kind) = (table().source, SchemaChangeKind::Added);
        SchemaChange { source, column: column.to_owned(), kind, seen, offset: Offset::new(1, 1) }
    }

    /// Columns as in `x int8`, and the steps as in `add x`.
    fn planned(fields: &[SchemaChange], columns: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let fields: Vec<&SchemaChange> = fields.iter().collect();
        let (promoted, steps) = plan(&table(), &catalog(columns), &fields);
        let step = |step: &AlterStep| {
            let what = if step.is_new { "add" } else { "widen" };
            format!("{what} {} {}", promoted[step.promoted].column, step.field_type)
        };
        let steps = steps.iter().map(step).collect();
        let column = |it: &PromotedColumn| format!("{} {}", it.column, it.field_type);
        (promoted.iter().map(column).collect(), steps)
    }

    #[test]
    fn a_field_has_the_first_column_that_takes_its_values() {
        let sure = SeenType::Sure;
        let int = sure(SureType::Bigint);
        type Columns<'a> = &'a [(&'a str, &'a str)];
        let cases: [(SeenType, Columns<'_>, &[&str], &[&str]); 10] = [
            (SeenType::Null, &[], &[], &[]),
            (int, &[], &["x int8"], &["add x int8"]),
            (SeenType::Integer, &[], &["x jsonb"], &["add x jsonb"]),
            (int, &[("x", "bigint")], &["x int8"], &[]),
            (int, &[("x", "numeric(38,2)")], &["x numeric(38,2)"], &[]),
            (int, &[("x", "jsonb")], &["x jsonb"], &[]),
            (sure(MONEY), &[("x", "bigint")], &["x int8"], &["widen x numeric(38,2)"]),
            (SeenType::Json, &[("x", "bigint")], &["x int8", "x__v2 jsonb"], &["add x__v2 jsonb"]),
            (SeenType::Json, &[("x", "date"), ("x__v2", "jsonb")], &["x date", "x__v2 jsonb"], &[]),
            // A column of a type that fields don't get is somebody else's.
            (int, &[("x", "inet")], &["x__v2 int8"], &["add x__v2 int8"]),
        ];
        for (known, columns, promoted, steps) in cases {
            let expected = (promoted.to_vec(), steps.to_vec());
            let (promoted, steps) = planned(&[seen("X", known)], columns);
            let found: (Vec<&str>, Vec<&str>) = (
                promoted.iter().map(String::as_str).collect(),
                steps.iter().map(String::as_str).collect(),
            );
            assert_eq!(found, expected, "{known} in {columns:?}");
        }
    }

    #[test]
    fn a_name_that_the_table_has_for_something_else_is_no_fields() {
        let fields = ["ID", "EVENT_ID", "PROCESSED_AT", "Points", "POINTS", "points", "CDC_TOPIC"];
        let fields = fields.map(|name| seen(name, SeenType::Text));
        let (promoted, _) = planned(&fields, &[]);
        assert_eq!(promoted, ["Points jsonb", "points jsonb"]);
    }
}
