//! Landing tables and tables of results that are not there yet: the statements that make them, for a start, for the
//! doctor and for errors.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::catalog;
use super::column_types::{STAMP, type_name};
use super::landing_columns::{
    CHANGE_SEQ, EVENT_ID, EXTRA_FIELDS, MAX_NAME, OPERATION, SOURCE_SCN, SOURCE_TS, UNAVAILABLE,
    indexed, is_current, target_name,
};
use super::made_at_start::{CURRENT, mark};
use crate::model::{ResultMode, ResultTable, Table};
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;

const DOING: &str = "creating the table of a result";
/// The new version of an updated row finds place on its page, and needs no new index entries then.
const ROOM_FOR_UPDATES: &str = " WITH (fillfactor = 70)";

/// Creates a result's table if there is none: the columns of its SELECT, the key as primary key, and when
/// a row was written.
pub(crate) async fn create_missing(
    connection: &mut Connection,
    schema: &str,
    result: &ResultTable,
) -> Result<(), SinkError> {
    let failed = |error| classify(DOING, error);
    if catalog::exists(&connection.client, schema, &result.target).await.map_err(failed)? {
        return Ok(());
    }
    let sql = definition(schema, result)
        .map_err(|problem| SinkError::Targets { problems: vec![problem] })?;
    connection.begin("", "").await.map_err(failed)?;
    let mark = mark(&quote::table(schema, &result.target));
    connection.client.batch_execute(&format!("{sql};\n{mark}")).await.map_err(failed)?;
    connection.commit().await.map_err(failed)?;
    tracing::info!(result = result.name, table = result.target, "created the table of a result");
    Ok(())
}

/// Creates a landing table if there is none, with its indexes and its view of current rows.
///
/// # Errors
/// [`SinkError::Targets`] if the role may not.
pub(crate) async fn create_landing(
    connection: &Connection,
    schema: &str,
    table: &Table,
) -> Result<(), SinkError> {
    let Some(definition) = LandingDefinition::of(schema, table) else { return Ok(()) };
    let client = &connection.client;
    let LandingDefinition { name, view, .. } = &definition;
    let failed = |error: Error| match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => SinkError::Targets {
            problems: vec![format!(
                "{name}: the role may not create it: GRANT CREATE ON SCHEMA, or create it in sql/ods"
            )],
        },
        _ => classify("creating a landing table", error),
    };
    if catalog::exists(client, schema, name).await.map_err(failed)? {
        return Ok(());
    }
    let has_view = match view {
        Some(view) => {
            let (view, there) = (quote::table(schema, view), "SELECT to_regclass($1) IS NOT NULL");
            let row = client.query_typed_one(there, &[(&view, Type::TEXT)]).await;
            row.and_then(|row| row.try_get::<_, bool>(0)).map_err(failed)?
        }
        None => false,
    };
    let mark = mark(&quote::table(schema, name));
    let sql = if has_view { definition.table.clone() } else { definition.text() };
    client.batch_execute(&format!("{sql}\n{mark}")).await.map_err(failed)?;
    tracing::info!(table = table.name, landing = name, "created a landing table");
    Ok(())
}

/// The statements that make a landing table; `None` if the table lands nowhere.
pub fn landing_definition(schema: &str, table: &Table) -> Option<String> {
    LandingDefinition::of(schema, table).map(|definition| definition.text())
}

/// A landing table: what is made, and its name.
struct LandingDefinition<'a> {
    name: &'a str,
    /// The table, and the indexes that its rows are found by.
    table: String,
    /// Its name; `None` for a discovered table, or where PostgreSQL would cut it off.
    view: Option<String>,
    view_text: String,
}

impl<'a> LandingDefinition<'a> {
    fn of(schema: &str, table: &'a Table) -> Option<Self> {
        let name = target_name(table)?;
        let place = quote::table(schema, name);
        let own = own_columns(table);
        let declared = table.columns.iter().map(|column| {
            let data_type = type_name(&column.data_type).unwrap_or_else(|| "text".to_owned());
            let constraint = if column.nullable { "" } else { " NOT NULL" };
            format!("{} {data_type}{constraint}", quote::ident(&column.name))
        });
        let lines = own.iter().map(|(name, rest)| format!("{} {rest}", quote::ident(name)));
        let key = quote::idents(table.key.iter().map(|at| table.columns[*at].name.as_str()));
        let is_current = is_current(table);
        let lines = declared.chain(lines).chain(is_current.then(|| format!("PRIMARY KEY ({key})")));
        let lines: Vec<String> = lines.collect();
        let storage = if is_current { ROOM_FOR_UPDATES } else { "" };
        let seq = quote::ident(&table.free_name(CHANGE_SEQ));
        let mut text =
            format!("CREATE TABLE IF NOT EXISTS {place} (\n  {}\n){storage};", lines.join(",\n  "));
        for (_, list) in indexed(table) {
            text.push_str(&format!("\nCREATE INDEX ON {place} ({list});"));
        }
        let view = Some(format!("{name}{CURRENT}"));
        // The columns of a discovered table may still get other types, which a view would not let them.
        let view = view.filter(|_| !table.is_discovered());
        let view = view.filter(|view| quote::split(schema, view).1.len() <= MAX_NAME);
        let operation = table.free_name(OPERATION);
        let columns = table.columns.iter().map(|column| column.name.as_str());
        let shown = own.iter().map(|(name, _)| name.as_str()).filter(|name| *name != operation);
        let columns = quote::idents(columns.chain(shown));
        let operation = quote::ident(&operation);
        let view_text = view.as_deref().map_or_else(String::new, |view| {
            let view = quote::table(schema, view);
            if is_current {
                return format!("\nCREATE VIEW {view} AS\nSELECT {columns}\nFROM {place};");
            }
            format!(
                "\nCREATE VIEW {view} AS\nSELECT {columns}\nFROM (SELECT DISTINCT ON ({key}) {columns}, {operation} \
                 FROM {place} ORDER BY {key}, {seq} DESC) newest\nWHERE {operation} <> 'd';"
            )
        });
        Some(Self { name, table: text, view, view_text })
    }

    fn text(&self) -> String {
        format!("{}{}", self.table, self.view_text)
    }
}

/// The columns besides the declared ones, each with its type and constraints; docs/POSTGRES.md lists them.
fn own_columns(table: &Table) -> Vec<(String, &'static str)> {
    let own = [
        (OPERATION, "text NOT NULL"),
        (SOURCE_TS, "timestamp"),
        (EXTRA_FIELDS, "jsonb"),
        (EVENT_ID, "text NOT NULL UNIQUE"),
        (CHANGE_SEQ, "bigint NOT NULL"),
        (STAMP, "timestamptz NOT NULL DEFAULT now()"),
    ];
    // The rows of a document are all sent or none, and as new as their parent.
    let of_events = [(UNAVAILABLE, "jsonb"), (SOURCE_SCN, "bigint")];
    let of_events = of_events.into_iter().filter(|_| !table.is_extracted());
    own.into_iter().chain(of_events).map(|(name, rest)| (table.free_name(name), rest)).collect()
}

/// The statement that creates a result's table.
///
/// # Errors
/// If a column has a type that Postgres has no match for; the text says what to do.
pub fn definition(schema: &str, result: &ResultTable) -> Result<String, String> {
    let key: &[usize] = match &result.mode {
        ResultMode::Append => &[],
        ResultMode::Keyed { key } => key,
    };
    let mut lines = Vec::new();
    for field in result.schema.fields() {
        let data_type = type_name(field.data_type()).ok_or_else(|| {
            format!(
                "{}.{}: no type of Postgres is known for {}; create the table yourself in sql/ods, or \
                 CAST the column",
                result.target,
                field.name(),
                field.data_type()
            )
        })?;
        lines.push(format!("{} {data_type}", quote::ident(field.name())));
    }
    if result.schema.column_with_name(STAMP).is_none() {
        let stamp = quote::ident(STAMP);
        lines.push(format!("{stamp} timestamptz NOT NULL DEFAULT now()"));
    }
    if !key.is_empty() {
        let names = key.iter().map(|at| result.schema.field(*at).name().as_str());
        lines.push(format!("PRIMARY KEY ({})", quote::idents(names)));
    }
    let table = quote::table(schema, &result.target);
    let storage = match result.mode {
        ResultMode::Append => "",
        ResultMode::Keyed { .. } => ROOM_FOR_UPDATES,
    };
    Ok(format!("CREATE TABLE IF NOT EXISTS {table} (\n  {}\n){storage}", lines.join(",\n  ")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use crate::model::Channel;

    use super::*;

    fn result(mode: ResultMode) -> ResultTable {
        let fields = vec![
            Field::new("Order", DataType::Int64, true),
            Field::new("total", DataType::Decimal128(25, 2), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ];
        ResultTable {
            name: "r".to_owned(),
            target: "ods.r".to_owned(),
            channel: Channel::Table,
            schema: Arc::new(Schema::new(fields)),
            mode,
            definition: String::new(),
        }
    }

    #[test]
    fn a_table_has_the_columns_of_the_result_its_key_and_a_stamp() {
        let sql = definition("public", &result(ResultMode::Keyed { key: vec![0, 2] })).unwrap();
        assert_eq!(
            sql,
            "CREATE TABLE IF NOT EXISTS \"ods\".\"r\" (\n  \"Order\" int8,\n  \"total\" numeric(25,2),\n  \
             \"at\" timestamp,\n  \"processed_at\" timestamptz NOT NULL DEFAULT now(),\n  \
             PRIMARY KEY (\"Order\", \"at\")\n) WITH (fillfactor = 70)"
        );
    }

    #[test]
    fn a_landing_table_has_constraints_indexes_and_a_view() {
        let orders = crate::sink::conformance::orders();
        assert_eq!(
            landing_definition("ods", &orders).unwrap(),
            "CREATE TABLE IF NOT EXISTS \"ods\".\"orders_history\" (\n  \"order_id\" int8 NOT NULL,\n  \
             \"status\" text,\n  \"amount\" numeric(15,2),\n  \"operation\" text NOT NULL,\n  \
             \"source_ts\" timestamp,\n  \"extra_fields\" jsonb,\n  \"event_id\" text NOT NULL UNIQUE,\n  \
             \"change_seq\" bigint NOT NULL,\n  \"processed_at\" timestamptz NOT NULL DEFAULT now(),\n  \
             \"unavailable_columns\" jsonb,\n  \"source_scn\" bigint\n);\n\
             CREATE INDEX ON \"ods\".\"orders_history\" (\"order_id\", \"change_seq\" DESC);\n\
             CREATE VIEW \"ods\".\"orders_history_current\" AS\nSELECT \"order_id\", \"status\", \"amount\", \
             \"source_ts\", \"extra_fields\", \"event_id\", \"change_seq\", \"processed_at\", \
             \"unavailable_columns\", \"source_scn\"\nFROM (SELECT DISTINCT ON (\"order_id\") \"order_id\", \
             \"status\", \"amount\", \"source_ts\", \"extra_fields\", \"event_id\", \"change_seq\", \
             \"processed_at\", \"unavailable_columns\", \"source_scn\", \"operation\" FROM \
             \"ods\".\"orders_history\" ORDER BY \"order_id\", \"change_seq\" DESC) newest\nWHERE \
             \"operation\" <> 'd';"
        );
    }

    #[test]
    fn a_table_of_current_rows_has_their_key() {
        let mut orders = crate::sink::conformance::kept_orders();
        let sql = landing_definition("ods", &orders).unwrap();
        assert!(
            sql.contains("PRIMARY KEY (\"order_id\")\n) WITH (fillfactor = 70);\nCREATE VIEW"),
            "{sql}"
        );
        assert!(sql.ends_with("\nFROM \"ods\".\"orders_kept\";"), "{sql}");
        let table = Arc::make_mut(&mut orders);
        table.options.landing = crate::model::Landing::History("h".to_owned());
        table.options.history = Some(std::time::Duration::from_secs(86_400));
        let sql = landing_definition("ods", &orders).unwrap();
        assert!(sql.contains("CREATE INDEX ON \"ods\".\"h\" (\"processed_at\");"), "{sql}");
    }

    #[test]
    fn an_appended_result_has_no_key() {
        let sql = definition("public", &result(ResultMode::Append)).unwrap();
        assert!(!sql.contains("PRIMARY KEY") && sql.ends_with("\n)"), "{sql}");
    }
}
