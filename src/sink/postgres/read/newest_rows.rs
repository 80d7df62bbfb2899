//! The newest landed rows of given keys, or of given values of other columns.

use std::sync::Arc;
use std::time::SystemTime;

use futures::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::snapshot;
use crate::model::{Changelog, Table};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::landing_columns::{CHANGE_SEQ, OPERATION};
use crate::sink::postgres::target::rows::EncodedRows;
use crate::sink::postgres::target::table::TargetTable;
use crate::sink::{KeyQuery, SinkError};

/// One statement, unless the keys are too many or too large for one; `None`: more than `limit` rows.
pub(crate) async fn read(
    connection: &mut Connection,
    table: &Arc<Table>,
    landing: &TargetTable,
    query: KeyQuery<'_>,
    limit: usize,
) -> Result<Option<Vec<Changelog>>, SinkError> {
    let KeyQuery { columns, keys } = query;
    let doing = format!("looking for rows of {}", landing.name);
    let failed = |error| classify(&doing, error);
    let of_key = columns.iter().map(|at| landing.columns[*at].clone()).collect();
    let wanted = TargetTable { columns: of_key, is_stamped: false, ..landing.clone() };
    let arrays = keys.columns().iter().map(Arc::clone).collect();
    let bound = EncodedRows::new(&wanted, arrays, SystemTime::UNIX_EPOCH)?;
    let newest = snapshot::newest_columns(table, Some(landing));
    let sql = select(table, columns, &newest, &wanted);
    connection.begin_long(snapshot::READ_ONLY).await.map_err(failed)?;
    let mut found: Vec<Row> = Vec::new();
    for bound in bound.bind(&sql)? {
        let statement = connection.prepare(&bound.sql).await.map_err(failed)?;
        let rest = (limit - found.len()) as i64 + 1;
        let keys = bound.params.iter().map(|param| &**param as &(dyn ToSql + Sync));
        let params: Vec<&(dyn ToSql + Sync)> = keys.chain([&rest as _]).collect();
        let rows = connection.client.query_raw(&statement, params).await.map_err(failed)?;
        let rows = rows.inspect_ok(|_| connection.deadline.record_activity());
        found.extend(rows.try_collect::<Vec<Row>>().await.map_err(failed)?);
        if found.len() > limit {
            break;
        }
    }
    // Rows keep their statements, which must be gone before the transaction is.
    let changelogs = if found.len() > limit {
        drop(found);
        None
    } else {
        let mut read = snapshot::ReadRows::new(table, &landing.name);
        found.into_iter().try_for_each(|row| read.add(row))?;
        Some(read.finish()?)
    };
    connection.commit().await.map_err(failed)?;
    Ok(changelogs)
}

/// One index look-up per key, if there is an index on the key and `change_seq`; other columns need one
/// of their own. A row counts if its newest version holds the value, whatever older ones held.
fn select(table: &Table, columns: &[usize], newest: &str, wanted: &TargetTable) -> String {
    let names = |columns: &[usize]| -> Vec<String> {
        columns.iter().map(|at| quote::ident(&table.columns[*at].name)).collect()
    };
    let same = |names: &[String], one: &str, other: &str| {
        let same = names.iter().map(|name| format!("{one}.{name} = {other}.{name}"));
        same.collect::<Vec<_>>().join(" AND ")
    };
    let (keys, asked) = (names(&table.key), names(columns));
    let landing = &wanted.sql_name;
    let is_by_key = columns == table.key;
    let found = if is_by_key {
        format!("SELECT DISTINCT {} FROM wanted", keys.join(", "))
    } else {
        format!(
            "SELECT DISTINCT {} FROM wanted JOIN {landing} AS landed ON {}",
            keys.iter().map(|key| format!("landed.{key}")).collect::<Vec<_>>().join(", "),
            same(&asked, "landed", "wanted"),
        )
    };
    // IS TRUE keeps it a hashed look-up: as a join, the plan that serves all numbers of keys compares
    // each row with each key.
    let still_asked = if is_by_key {
        String::new()
    } else {
        format!(
            "AND ((newest.{}) IN (SELECT {} FROM wanted)) IS TRUE ",
            asked.join(", newest."),
            asked.join(", "),
        )
    };
    let own = |name: &str| quote::ident(&table.free_name(name));
    format!(
        "WITH wanted ({asked_names}) AS (SELECT * FROM {arrays} AS given), found AS ({found}) \
         SELECT {newest} FROM found CROSS JOIN LATERAL (\
         SELECT * FROM {landing} AS landed WHERE {same_key} ORDER BY landed.{seq} DESC LIMIT 1\
         ) AS newest WHERE newest.{operation} <> 'd' {still_asked}LIMIT ${limit}",
        asked_names = asked.join(", "),
        arrays = wanted.given(),
        same_key = same(&keys, "landed", "found"),
        seq = own(CHANGE_SEQ),
        operation = own(OPERATION),
        limit = asked.len() + 1,
    )
}
