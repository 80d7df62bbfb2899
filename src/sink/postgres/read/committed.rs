//! Which events the landing tables and the dead letters hold.

use std::collections::HashSet;

use tokio_postgres::types::{ToSql, Type};

use crate::model::{EventId, Offset};
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;

/// A landing table, quoted, and its column of event ids, quoted.
pub(crate) struct EventIds {
    pub(crate) table: String,
    pub(crate) column: String,
}

/// The table of dead letters, quoted, and whose of them count.
#[derive(Clone, Copy)]
pub(crate) struct DeadEvents<'a> {
    pub(crate) table: &'a str,
    pub(crate) pipeline: &'a str,
}

/// Looks for events in landing tables and among the dead letters of a pipeline.
pub(crate) async fn read(
    connection: &mut Connection,
    landing: &[EventIds],
    dead: DeadEvents<'_>,
    events: &[EventId],
) -> Result<HashSet<Offset>, SinkError> {
    let failed = |error| classify("looking for events that are committed", error);
    let ids: Vec<String> = events.iter().map(EventId::to_string).collect();
    let mut sql =
        format!("SELECT event_id FROM {} WHERE pipeline = $2 AND event_id = ANY ($1)", dead.table);
    for EventIds { table, column } in landing {
        sql += &format!(" UNION ALL SELECT {column}::text FROM {table} WHERE {column} = ANY ($1)");
    }
    let asked: [(&(dyn ToSql + Sync), Type); 2] =
        [(&ids, Type::TEXT_ARRAY), (&dead.pipeline, Type::TEXT)];
    let rows = connection.client.query_typed(&sql, &asked).await.map_err(failed)?;
    let mut found = HashSet::new();
    for row in rows {
        let id: &str = row.try_get(0).map_err(failed)?;
        found.extend(EventId::message(id));
    }
    Ok(found)
}
