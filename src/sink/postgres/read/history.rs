//! All landed changes of given keys.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use tokio_postgres::types::ToSql;

use super::snapshot;
use crate::model::{Changelog, Table};
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::landing_columns::{CHANGE_SEQ, is_current};
use crate::sink::postgres::target::current::{deleted_rows, is_deleted};
use crate::sink::postgres::target::rows::EncodedRows;
use crate::sink::postgres::target::table::TargetTable;

/// Whose changes are read.
#[derive(Clone, Copy)]
pub(crate) struct KeyHistory<'a> {
    pub(crate) schema: &'a str,
    pub(crate) table: &'a Arc<Table>,
    pub(crate) landing: &'a TargetTable,
    pub(crate) keys: &'a RecordBatch,
}

/// One statement, unless the keys are too many or too large for one. Rows are streamed, and only the
/// chunk at hand is kept twice.
pub(crate) async fn read(
    connection: &mut Connection,
    KeyHistory { schema, table, landing, keys }: KeyHistory<'_>,
) -> Result<Vec<Changelog>, SinkError> {
    let doing = format!("reading the history of {}", landing.name);
    let failed = |error| classify(&doing, error);
    let of_key = table.key.iter().map(|at| landing.columns[*at].clone()).collect();
    let wanted = TargetTable { columns: of_key, is_stamped: false, ..landing.clone() };
    let arrays = keys.columns().iter().map(Arc::clone).collect();
    let bound = EncodedRows::new(&wanted, arrays, SystemTime::UNIX_EPOCH)?;
    let sql = select(schema, table, landing, &wanted);
    connection.begin_long(snapshot::READ_ONLY).await.map_err(failed)?;
    let mut changelogs = Vec::new();
    let mut take = |rows| {
        changelogs.push(rows);
        ControlFlow::Continue(())
    };
    let mut read = snapshot::ReadRows::new(table, &landing.name, &mut take);
    for bound in bound.bind(&sql)? {
        let statement = connection.prepare(&bound.sql).await.map_err(failed)?;
        let params = bound.params.iter().map(|param| &**param as &(dyn ToSql + Sync));
        let rows = connection.client.query_raw(&statement, params).await.map_err(failed)?;
        let rows = rows.inspect_ok(|_| connection.deadline.record_activity());
        let mut rows = pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let _wants_more = read.add(row)?;
        }
    }
    read.finish()?;
    connection.commit().await.map_err(failed)?;
    Ok(changelogs)
}

/// One index look-up per key, if there is an index on the key and `change_seq`.
fn select(schema: &str, table: &Table, landing: &TargetTable, wanted: &TargetTable) -> String {
    let keys: Vec<String> =
        table.key.iter().map(|at| quote::ident(&table.columns[*at].name)).collect();
    let same: Vec<String> = keys.iter().map(|key| format!("newest.{key} = wanted.{key}")).collect();
    let order: Vec<String> = keys.iter().map(|key| format!("newest.{key}")).collect();
    let (landed, same) = (&wanted.sql_name, same.join(" AND "));
    let found = if is_current(table) {
        let deleted = deleted_rows(schema, table, landed, &is_deleted(table, "wanted"));
        format!(
            "(SELECT newest.* FROM wanted JOIN {landed} AS newest ON {same} \
             UNION ALL SELECT was.* FROM wanted CROSS JOIN {deleted}) AS newest"
        )
    } else {
        format!("wanted JOIN {landed} AS newest ON {same}")
    };
    format!(
        "WITH wanted ({names}) AS (SELECT DISTINCT * FROM {arrays} AS given) \
         SELECT {columns} FROM {found} ORDER BY {order}, newest.{seq}",
        names = keys.join(", "),
        arrays = wanted.given(),
        columns = snapshot::newest_columns(table, Some(landing)),
        order = order.join(", "),
        seq = quote::ident(&table.free_name(CHANGE_SEQ)),
    )
}
