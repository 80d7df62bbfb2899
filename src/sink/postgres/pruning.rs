//! Landed changes that are old and superseded leave their tables, some at a time, by a connection of its own.
//!
//! Old is what `processed_at` says: when the change landed. The time of the source may be NULL, and a change of last year
//! that lands today is to be seen as long as any other.
//!
//! A change is looked at when it becomes old, and when a newer one of its key lands: what a pass costs follows from what
//! has changed since the last one, and `tidemark_pruned` says how far that came. No change leaves of an epoch that is in the
//! ledger: a state on disk may lack it, and a start reads it by its messages. The ledger keeps all epochs that a state may
//! lack, whatever folder that is in.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::client::connection::Connection;
use super::client::error::classify;
use super::client::quote;
use super::client::session::DatabaseSession;
use super::commit::transaction::{BY_INDEX, READ_COMMITTED};
use super::config::PostgresConfig;
use super::schema::catalog;
use super::schema::column_types::STAMP;
use super::schema::landing_columns::{
    CHANGE_SEQ, OPERATION, UNAVAILABLE, indexed, is_current, target_name,
};
use super::schema::system_tables::{DEAD_LETTERS, DELETED, LEDGER, PRUNED};
use crate::model::Table;
use crate::sink::SinkError;

/// Rows that are looked at in one transaction; those that landed at the same moment are not divided.
const ROWS: i64 = 1000;

/// How long a delete is remembered of a table of current rows: older changes that come that late bring its row back.
const DELETES_STAY: Duration = Duration::from_secs(86_400);

/// Takes old changes out of landing tables, and what was deleted long ago out of `tidemark_deleted`.
pub struct LandingPruner {
    session: DatabaseSession,
    pipeline: String,
}

/// What one transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// How many rows have left.
    pub rows: u64,
    /// Nothing is left to be looked at.
    pub is_done: bool,
}

/// How far the passes over a table came.
struct Progress {
    /// Rows that landed up to then have been looked at since they are old.
    aged_to: Option<SystemTime>,
    /// The same of rows that may supersede old ones.
    landed_to: SystemTime,
}

/// Rows by when they landed: after the first time, and before the second.
type Span = (Option<SystemTime>, SystemTime);

impl LandingPruner {
    /// Does not connect yet.
    ///
    /// # Errors
    /// [`SinkError::Config`] with everything that is wrong.
    pub fn new(config: PostgresConfig, pipeline: impl Into<String>) -> Result<Self, SinkError> {
        Ok(Self { session: DatabaseSession::new(config)?, pipeline: pipeline.into() })
    }

    /// Looks at the next rows of a table; what landed before `now` less its `history` is old.
    ///
    /// # Errors
    /// If the target is away, or the table is not made for it.
    pub async fn prune_some(
        &mut self,
        table: &Arc<Table>,
        now: SystemTime,
    ) -> Result<Pruned, SinkError> {
        let nothing = Pruned { rows: 0, is_done: true };
        let stays = if is_current(table) { Some(DELETES_STAY) } else { table.options.history };
        let (Some(name), Some(stays)) = (target_name(table), stays) else { return Ok(nothing) };
        let Some(old) = now.checked_sub(stays) else { return Ok(nothing) };
        let schema = self.session.schema().to_owned();
        let pipeline = self.pipeline.clone();
        let pass = Pass { schema: &schema, pipeline: &pipeline, table, name, old };
        let prune = async |open: &mut Connection| pass.run(open).await;
        self.session.with_connection(&format!("taking old changes out of {name}"), prune).await
    }
}

struct Pass<'a> {
    schema: &'a str,
    pipeline: &'a str,
    table: &'a Table,
    /// The landing table's.
    name: &'a str,
    old: SystemTime,
}

impl Pass<'_> {
    async fn run(&self, connection: &mut Connection) -> Result<Pruned, SinkError> {
        let failed = |error| self.failed(error);
        connection.begin(READ_COMMITTED, BY_INDEX).await.map_err(failed)?;
        let pruned = if is_current(self.table) {
            self.forget_deleted(connection).await?
        } else {
            self.prune(connection).await?
        };
        connection.commit().await.map_err(failed)?;
        Ok(pruned)
    }

    async fn prune(&self, connection: &Connection) -> Result<Pruned, SinkError> {
        let failed = |error| self.failed(error);
        let nothing = Pruned { rows: 0, is_done: true };
        let Some((progress, bound, newest)) = self.progress(connection).await? else {
            return Ok(nothing);
        };
        let there = catalog::read(&connection.client, self.schema, self.name).await;
        let Some(there) = there.map_err(failed)? else { return Ok(nothing) };
        self.check(connection, |column| there.columns.contains_key(column)).await?;
        let aged = (progress.aged_to, bound);
        let landed = (Some(progress.landed_to), newest + Duration::from_micros(1));
        let (span, progress) = if let Some(to) = self.next(connection, aged).await? {
            ((aged.0, to), Progress { aged_to: Some(to), ..progress })
        } else if let Some(to) = self.next(connection, landed).await? {
            ((landed.0, to), Progress { landed_to: to, ..progress })
        } else {
            return Ok(nothing);
        };
        let names_unavailable = there.columns.contains_key(&self.table.free_name(UNAVAILABLE));
        let source = self.table.source.to_string();
        let params: [(&(dyn ToSql + Sync), Type); 5] = [
            (&self.pipeline, Type::TEXT),
            (&self.old, Type::TIMESTAMPTZ),
            (&span.0, Type::TIMESTAMPTZ),
            (&span.1, Type::TIMESTAMPTZ),
            (&source, Type::TEXT),
        ];
        let sql = self.delete_sql(names_unavailable);
        let rows = connection.client.execute_typed(&sql, &params).await.map_err(failed)?;
        connection.deadline.record_activity();
        self.note(connection, &progress).await?;
        Ok(Pruned { rows, is_done: false })
    }

    /// The deletes of epochs that are not in the ledger any more are in all states on disk that a start may go on from.
    /// A delete that a commit is about to replace is left alone, so that none waits for the other.
    async fn forget_deleted(&self, connection: &Connection) -> Result<Pruned, SinkError> {
        let failed = |error| self.failed(error);
        let deleted = quote::table(self.schema, DELETED);
        let sql = format!(
            "DELETE FROM {deleted} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {deleted} WHERE landing = $4 \
             AND epoch < (SELECT min(epoch) FROM {ledger} WHERE pipeline = $1) AND deleted_at < least($2, ({letters})) \
             LIMIT {ROWS} FOR UPDATE SKIP LOCKED))",
            ledger = quote::table(self.schema, LEDGER),
            letters = self.oldest_letter("$3"),
        );
        let source = self.table.source.to_string();
        let params: [(&(dyn ToSql + Sync), Type); 4] = [
            (&self.pipeline, Type::TEXT),
            (&self.old, Type::TIMESTAMPTZ),
            (&source, Type::TEXT),
            (&self.name, Type::TEXT),
        ];
        let rows = connection.client.execute_typed(&sql, &params).await.map_err(failed)?;
        Ok(Pruned { rows, is_done: rows < ROWS.unsigned_abs() })
    }

    /// When the oldest letter first failed that may come back and be about the table.
    fn oldest_letter(&self, source: &str) -> String {
        format!(
            "SELECT coalesce(min(first_failure), 'infinity') FROM {} WHERE pipeline = $1 \
             AND status IN ('dead', 'requested', 'queued') AND (source_table IS NULL OR source_table = {source})",
            quote::table(self.schema, DEAD_LETTERS)
        )
    }

    /// How far it is, up to where rows are old, and up to where rows have landed; `None` without an epoch in the ledger.
    async fn progress(
        &self,
        connection: &Connection,
    ) -> Result<Option<(Progress, SystemTime, SystemTime)>, SinkError> {
        let sql = format!(
            "SELECT least($2, min(closed_at)), max(closed_at), \
             (SELECT aged_to FROM {pruned} WHERE pipeline = $1 AND landing = $3), \
             (SELECT landed_to FROM {pruned} WHERE pipeline = $1 AND landing = $3) \
             FROM {ledger} WHERE pipeline = $1",
            pruned = quote::table(self.schema, PRUNED),
            ledger = quote::table(self.schema, LEDGER),
        );
        let params: [(&(dyn ToSql + Sync), Type); 3] = [
            (&self.pipeline, Type::TEXT),
            (&self.old, Type::TIMESTAMPTZ),
            (&self.name, Type::TEXT),
        ];
        let row = connection.client.query_typed_one(&sql, &params).await;
        let read = |row: &Row| {
            let newest: Option<SystemTime> = row.try_get(1)?;
            let Some(newest) = newest else { return Ok(None) };
            let landed_to: Option<SystemTime> = row.try_get(3)?;
            let landed_to = landed_to.unwrap_or(newest);
            Ok(Some((Progress { aged_to: row.try_get(2)?, landed_to }, row.try_get(0)?, newest)))
        };
        row.and_then(|row| read(&row)).map_err(|error| self.failed(error))
    }

    /// The table tells when rows landed, and finds them by that and by their keys.
    async fn check(
        &self,
        connection: &Connection,
        has: impl Fn(&str) -> bool,
    ) -> Result<(), SinkError> {
        let stamp = self.table.free_name(STAMP);
        let name = self.name;
        if !has(&stamp) || stamp != STAMP {
            let problem = format!(
                "{name}: it has no column {STAMP} of Tidemark's own, which says when a change landed: add it, or leave \
                 out the option history of {}",
                self.table.name
            );
            return Err(SinkError::Targets { problems: vec![problem] });
        }
        let mut problems = Vec::new();
        for (columns, list) in indexed(self.table) {
            let landed = quote::table(self.schema, name);
            let there = catalog::has_index(&connection.client, &landed, &columns).await;
            if !there.map_err(|error| self.failed(error))? {
                let columns = columns.join(", ");
                problems.push(format!(
                    "{name}: it has no index on ({columns}), without which its history is not shortened: CREATE INDEX \
                     ON {landed} ({list});"
                ));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(SinkError::Targets { problems }) }
    }

    /// When the last of the next rows of a span landed; `None` if there are none.
    async fn next(
        &self,
        connection: &Connection,
        (from, to): Span,
    ) -> Result<Option<SystemTime>, SinkError> {
        let (stamp, table) = (self.column(STAMP), quote::table(self.schema, self.name));
        let sql = format!(
            "SELECT max(at) FROM (SELECT {stamp} AS at FROM {table} WHERE {stamp} > coalesce($1, '-infinity') \
             AND {stamp} < $2 ORDER BY {stamp} LIMIT {ROWS}) AS next"
        );
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ)];
        let row = connection.client.query_typed_one(&sql, &params).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| self.failed(error))
    }

    /// What is old and superseded, of the keys that have a row landed in a span.
    ///
    /// A newer change makes it so that carried all that it did: a value that was not sent is looked up in older changes. A
    /// delete goes when it is all that is left of its key, unless a dead letter is older, which may come back.
    fn delete_sql(&self, names_unavailable: bool) -> String {
        let key = |of: &str, other: &str| {
            let same = self.table.key.iter().map(|at| {
                let key = quote::ident(&self.table.columns[*at].name);
                format!("{of}.{key} = {other}.{key}")
            });
            same.collect::<Vec<_>>().join(" AND ")
        };
        let keys = self.table.key.iter().map(|at| self.table.columns[*at].name.as_str());
        let (seq, stamp) = (self.column(CHANGE_SEQ), self.column(STAMP));
        let (operation, unavailable) = (self.column(OPERATION), self.column(UNAVAILABLE));
        let missing = |of: &str| format!("coalesce({of}.{unavailable}::jsonb, '[]')");
        let carries_all = if names_unavailable {
            let (old, newer) = (missing("old"), missing("newer"));
            format!(" AND (newer.{operation} = 'd' OR {old} @> {newer})")
        } else {
            String::new()
        };
        format!(
            "WITH bound AS (SELECT least($2, (SELECT min(closed_at) FROM {ledger} WHERE pipeline = $1)) AS at, \
             ({letters}) AS letters) \
             DELETE FROM {landing} AS old USING bound, (SELECT DISTINCT {names} FROM {landing} \
             WHERE {stamp} > coalesce($3, '-infinity') AND {stamp} <= $4) AS touched \
             WHERE {same_touched} AND old.{stamp} < bound.at AND (EXISTS (SELECT FROM {landing} AS newer \
             WHERE {same_newer} AND newer.{seq} > old.{seq}{carries_all}) \
             OR (old.{operation} = 'd' AND old.{stamp} < bound.letters AND NOT EXISTS (SELECT FROM {landing} AS other \
             WHERE {same_other} AND (other.{seq} > old.{seq} OR other.{stamp} >= bound.at))))",
            ledger = quote::table(self.schema, LEDGER),
            letters = self.oldest_letter("$5"),
            landing = quote::table(self.schema, self.name),
            names = quote::idents(keys),
            same_touched = key("old", "touched"),
            same_newer = key("newer", "old"),
            same_other = key("other", "old"),
        )
    }

    async fn note(&self, connection: &Connection, progress: &Progress) -> Result<(), SinkError> {
        let sql = format!(
            "INSERT INTO {} (pipeline, landing, aged_to, landed_to) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (pipeline, landing) DO UPDATE SET aged_to = EXCLUDED.aged_to, landed_to = EXCLUDED.landed_to",
            quote::table(self.schema, PRUNED)
        );
        let params: [(&(dyn ToSql + Sync), Type); 4] = [
            (&self.pipeline, Type::TEXT),
            (&self.name, Type::TEXT),
            (&progress.aged_to, Type::TIMESTAMPTZ),
            (&progress.landed_to, Type::TIMESTAMPTZ),
        ];
        let noted = connection.client.execute_typed(&sql, &params).await;
        noted.map(drop).map_err(|error| self.failed(error))
    }

    fn column(&self, name: &str) -> String {
        quote::ident(&self.table.free_name(name))
    }

    fn failed(&self, error: Error) -> SinkError {
        classify(&format!("taking old changes out of {}", self.name), error)
    }
}
