//! The SQL files that a pipeline ran last, so that a start whose files are refused can go on with them.
//!
//! An installation whose role may not create the table runs without it.

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::sink::SinkError;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;

const SQL_FILES: &str = "tidemark_sql_files";
const SQL_FILES_DDL: &str = "\
pipeline text NOT NULL, file text NOT NULL, content text NOT NULL, PRIMARY KEY (pipeline, file)";

/// Name and content of each file; none if nothing is known.
pub(crate) async fn read(
    client: &Client,
    schema: &str,
    pipeline: &str,
) -> Result<Vec<(String, String)>, SinkError> {
    let failed = |error| classify("reading the SQL files that ran last", error);
    let table = quote::table(schema, SQL_FILES);
    if !is_there(client, &table).await? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT file, content FROM {table} WHERE pipeline = $1 ORDER BY file");
    let rows = client.query_typed(&sql, &[(&pipeline, Type::TEXT)]).await.map_err(failed)?;
    rows.iter()
        .map(|row| Ok((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?)))
        .collect()
}

/// Makes these the files that ran last.
pub(crate) async fn write(
    client: &Client,
    schema: &str,
    pipeline: &str,
    files: &[(String, String)],
) -> Result<(), SinkError> {
    let failed = |error| classify("keeping the SQL files that run", error);
    let table = quote::table(schema, SQL_FILES);
    if !is_there(client, &table).await? {
        let may = "SELECT has_schema_privilege($1, 'CREATE')";
        let may = client.query_typed_one(may, &[(&schema, Type::TEXT)]).await.map_err(failed)?;
        if !may.try_get::<_, bool>(0).map_err(failed)? {
            return Ok(());
        }
        let create = format!("CREATE TABLE IF NOT EXISTS {table} ({SQL_FILES_DDL})");
        client.batch_execute(&create).await.map_err(failed)?;
    }
    let sql = format!(
        "WITH gone AS (DELETE FROM {table} WHERE pipeline = $1 AND file <> ALL ($2)) \
         INSERT INTO {table} (pipeline, file, content) SELECT $1, * FROM unnest($2, $3) \
         ON CONFLICT (pipeline, file) DO UPDATE SET content = EXCLUDED.content"
    );
    let (names, contents): (Vec<&str>, Vec<&str>) =
        files.iter().map(|(name, content)| (name.as_str(), content.as_str())).unzip();
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&pipeline, Type::TEXT), (&names, Type::TEXT_ARRAY), (&contents, Type::TEXT_ARRAY)];
    client.query_typed(&sql, &params).await.map_err(failed)?;
    Ok(())
}

async fn is_there(client: &Client, table: &str) -> Result<bool, SinkError> {
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    let found = client.query_typed_one(sql, &[(&table, Type::TEXT)]).await;
    let failed = |error| classify("looking for the SQL files that ran last", error);
    found.and_then(|row| row.try_get(0)).map_err(failed)
}
