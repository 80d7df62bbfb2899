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
use crate::sink::postgres::schema::landing_columns::CHANGE_SEQ;
use crate::sink::postgres::target::rows::EncodedRows;
use crate::sink::postgres::target::table::TargetTable;

/// One statement, unless the keys are too many or too large for one. Rows are streamed, and only the
/// chunk at hand is kept twice.
pub(crate) async fn read(
    connection: &mut Connection,
    table: &Arc<Table>,
    landing: &TargetTable,
    keys: &RecordBatch,
) -> Result<Vec<Changelog>, SinkError> {
    let doing = format!("reading the history of {}", landing.name);
    let failed = |error| classify(&doing, error);
    let of_key = table.key.iter().map(|at| landing.columns[*at].clone()).collect();
    let wanted = TargetTable { columns: of_key, is_stamped: false, ..landing.clone() };
    let arrays = keys.columns().iter().map(Arc::clone).collect();
    let bound = EncodedRows::new(&wanted, arrays, SystemTime::UNIX_EPOCH)?;
    let sql = select(table, landing, &wanted);
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
fn select(table: &Table, landing: &TargetTable, wanted: &TargetTable) -> String {
    let keys: Vec<String> =
        table.key.iter().map(|at| quote::ident(&table.columns[*at].name)).collect();
    let same: Vec<String> = keys.iter().map(|key| format!("newest.{key} = wanted.{key}")).collect();
    let order: Vec<String> = keys.iter().map(|key| format!("newest.{key}")).collect();
    format!(
        "WITH wanted ({names}) AS (SELECT DISTINCT * FROM {arrays} AS given) \
         SELECT {columns} FROM wanted JOIN {landing} AS newest ON {same} \
         ORDER BY {order}, newest.{seq}",
        names = keys.join(", "),
        arrays = wanted.given(),
        columns = snapshot::newest_columns(table, Some(landing)),
        landing = wanted.sql_name,
        same = same.join(" AND "),
        order = order.join(", "),
        seq = quote::ident(&table.free_name(CHANGE_SEQ)),
    )
}
