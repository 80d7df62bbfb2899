//! Whether rows are there, by their newest landed change.

use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::RecordBatch;
use tokio_postgres::types::ToSql;

use super::connection::Connection;
use super::fault::classify;
use super::landing::{CHANGE_SEQ, OPERATION};
use super::quote;
use super::rows::Rows;
use super::target::{Target, unnest};
use crate::changelog::Table;
use crate::sink::SinkError;

/// One flag per key; one statement, unless the keys are too many or too large for one.
pub(super) async fn read(
    connection: &mut Connection,
    table: &Table,
    landing: &Target,
    keys: &RecordBatch,
) -> Result<Vec<bool>, SinkError> {
    let doing = format!("looking for rows of {}", landing.name);
    let failed = |error| classify(&doing, error);
    let columns = table.key.iter().map(|at| landing.columns[*at].clone()).collect();
    let key = Target { columns, is_stamped: false, ..landing.clone() };
    let arrays = keys.columns().iter().map(Arc::clone).collect();
    let rows = Rows::new(&key, arrays, SystemTime::UNIX_EPOCH)?;
    let mut are_live = Vec::with_capacity(keys.num_rows());
    for bound in rows.bind(&select(table, &key))? {
        let statement = connection.prepare(&bound.sql).await.map_err(failed)?;
        let params: Vec<&(dyn ToSql + Sync)> =
            bound.params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect();
        let answers = connection.client.query(&statement, &params).await.map_err(failed)?;
        are_live.extend(answers.iter().map(|row| row.get::<_, bool>(0)));
    }
    Ok(are_live)
}

/// One index look-up per key, if there is an index on the key and `change_seq`.
fn select(table: &Table, key: &Target) -> String {
    let names: Vec<String> = key.columns.iter().map(|column| quote::ident(&column.name)).collect();
    let same: Vec<String> =
        names.iter().map(|name| format!("landed.{name} = wanted.{name}")).collect();
    let own = |name: &str| quote::ident(&table.free_name(name));
    format!(
        "SELECT COALESCE((SELECT landed.{operation} <> 'd' FROM {landing} AS landed WHERE {same} \
         ORDER BY landed.{seq} DESC LIMIT 1), FALSE) \
         FROM {keys} WITH ORDINALITY AS wanted({names}, {place}) ORDER BY wanted.{place}",
        operation = own(OPERATION),
        landing = key.sql_name,
        same = same.join(" AND "),
        seq = own(CHANGE_SEQ),
        keys = unnest(key.wires()),
        names = names.join(", "),
        place = quote::ident(&table.free_name("place")),
    )
}
