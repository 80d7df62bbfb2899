//! Tables of results, and landing tables of extracted rows, that are not there yet.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::catalog;
use super::column_types::{STAMP, type_name};
use super::landing_columns::{
    CHANGE_SEQ, EVENT_ID, EXTRA_FIELDS, OPERATION, SOURCE_SCN, SOURCE_TS, UNAVAILABLE, target_name,
};
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
    if catalog::read(&connection.client, schema, &result.target).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    let sql = definition(schema, result)
        .map_err(|problem| SinkError::Targets { problems: vec![problem] })?;
    connection.begin("", "").await.map_err(failed)?;
    connection.client.batch_execute(&sql).await.map_err(failed)?;
    connection.commit().await.map_err(failed)?;
    tracing::info!(result = result.name, table = result.target, "created the table of a result");
    Ok(())
}

/// Creates a landing table if there is none, of extracted rows or of a table that no file declares.
///
/// # Errors
/// [`SinkError::Targets`] if the role may not.
pub(crate) async fn create_landing(
    connection: &Connection,
    schema: &str,
    table: &Table,
) -> Result<(), SinkError> {
    let Some(name) = target_name(table) else { return Ok(()) };
    let client = &connection.client;
    let failed = |error: Error| match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => SinkError::Targets {
            problems: vec![format!(
                "{name}: the role may not create it: GRANT CREATE ON SCHEMA, or create it in sql/ods"
            )],
        },
        _ => classify("creating a landing table", error),
    };
    if catalog::read(client, schema, name).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    client.batch_execute(&landing_definition(schema, name, table)).await.map_err(failed)?;
    tracing::info!(table = table.name, landing = name, "created a landing table");
    Ok(())
}

/// The table, and the index that the newest row of a key is found by.
fn landing_definition(schema: &str, name: &str, table: &Table) -> String {
    let declared = table.columns.iter().map(|column| {
        let data_type = type_name(&column.data_type).unwrap_or_else(|| "text".to_owned());
        let constraint = if column.nullable { "" } else { " NOT NULL" };
        format!("{} {data_type}{constraint}", quote::ident(&column.name))
    });
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
    let has_events = !table.is_extracted();
    let own = own.into_iter().chain(of_events.into_iter().filter(|_| has_events));
    let own = own.map(|(name, rest)| format!("{} {rest}", quote::ident(&table.free_name(name))));
    let lines: Vec<String> = declared.chain(own).collect();
    let key = quote::idents(table.key.iter().map(|at| table.columns[*at].name.as_str()));
    let (place, seq) = (quote::table(schema, name), quote::ident(&table.free_name(CHANGE_SEQ)));
    format!(
        "CREATE TABLE IF NOT EXISTS {place} (\n  {}\n);\nCREATE INDEX ON {place} ({key}, {seq} DESC)",
        lines.join(",\n  ")
    )
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
    fn an_appended_result_has_no_key() {
        let sql = definition("public", &result(ResultMode::Append)).unwrap();
        assert!(!sql.contains("PRIMARY KEY") && sql.ends_with("\n)"), "{sql}");
    }
}
