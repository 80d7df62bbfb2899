//! All landed changes of given messages.

use std::pin::pin;
use std::sync::Arc;

use futures::TryStreamExt;
use tokio_postgres::types::Type;

use super::snapshot;
use crate::model::{Offset, OffsetSet, Table};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::landing_columns::{EVENT_ID, is_current};
use crate::sink::postgres::target::current::deleted_rows;
use crate::sink::postgres::target::table::TargetTable;
use crate::sink::{SinkError, TakeRows};

/// The most ranges of messages that are asked for; neighbours are joined.
const MOST_RANGES: usize = 64;

/// Whose changes are read.
#[derive(Clone, Copy)]
pub(crate) struct ChangesOf<'a> {
    pub(crate) schema: &'a str,
    pub(crate) table: &'a Arc<Table>,
    pub(crate) landing: &'a TargetTable,
    pub(crate) messages: &'a OffsetSet,
}

/// One statement for each range of messages, over the index on event ids. Rows are streamed, and only the chunk at hand is in
/// memory.
pub(crate) async fn read(
    connection: &mut Connection,
    ChangesOf { schema, table, landing, messages }: ChangesOf<'_>,
    take: TakeRows<'_>,
) -> Result<(), SinkError> {
    let doing = format!("reading {}", landing.name);
    let failed = |error| classify(&doing, error);
    let mut messages = messages.clone();
    messages.coarsen(MOST_RANGES);
    // An id is the message, and for some rows `#` and a number behind it: in any collation it is below the next message.
    let (columns, landed) = (snapshot::newest_columns(table, Some(landing)), &landing.sql_name);
    let id = quote::ident(&table.free_name(EVENT_ID));
    let mut sql = format!(
        "SELECT {columns} FROM {landed} AS newest WHERE newest.{id} >= $1 AND newest.{id} < $2"
    );
    if is_current(table) {
        let is_asked = "gone.event_id >= $1 AND gone.event_id < $2";
        let deleted = deleted_rows(schema, table, landed, is_asked);
        sql += &format!(" UNION ALL SELECT {columns} FROM (SELECT was.* FROM {deleted}) AS newest");
    }
    connection.begin_long(snapshot::READ_ONLY).await.map_err(failed)?;
    let mut read = snapshot::ReadRows::new(table, &landing.name, take);
    'ranges: for (first, last) in messages.ranges() {
        let next = Offset { id: last.saturating_add(1), ..first };
        let range = [first.to_string(), next.to_string()];
        let range = range.iter().map(|id| (id, Type::TEXT));
        let rows = connection.client.query_typed_raw(&sql, range).await.map_err(failed)?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            connection.deadline.record_activity();
            if read.add(row)?.is_break() {
                break 'ranges;
            }
        }
    }
    read.finish()?;
    connection.commit().await.map_err(failed)
}
