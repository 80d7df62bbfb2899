//! The outbox: what the REST API is still to be told, written in the epoch's transaction.

pub(super) mod resends;

use std::time::SystemTime;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, SimpleQueryMessage};

use crate::model::{EpochCommit, ResultChanges};
use crate::sink::SinkError;
use crate::sink::outbox::{OutboxRow, RejectedRequest, RenderedRequest, render};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::client::response_deadline::ResponseDeadline;
use crate::sink::postgres::config::PostgresConfig;
use crate::sink::postgres::dead_letters::request_letters;
use crate::sink::postgres::schema::system_tables::{DEAD_LETTERS, OUTBOX, epoch_number};
use crate::sink::postgres::target::rows::BoundStatement;

/// The most rows in one statement.
const STATEMENT_ROWS: usize = 1_000;
/// One process per pipeline and schema posts, as long as it holds this lock.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtext('tidemark outbox'), hashtext($1))";
/// A transaction that is open as long as the turn lasts. It reads nothing, so it keeps nothing from VACUUM.
const HOLD: &str = "ISOLATION LEVEL READ COMMITTED READ ONLY";
const NO_TIMEOUT: &str = "SET LOCAL idle_in_transaction_session_timeout = 0";

/// The statements that add the changes of a result to the outbox.
///
/// A row with a known `idempotency_key` is not added again. That is how `-- sends: once` holds: such rows stay
/// when they are delivered, without their bodies.
pub(crate) fn inserts(
    changes: &ResultChanges,
    commit: &EpochCommit,
    schema: &str,
    pipeline: &str,
) -> Result<Vec<BoundStatement>, SinkError> {
    let rows = render(changes, pipeline, commit)?;
    let sql = format!(
        "INSERT INTO {} (pipeline, epoch, result, path, is_once, lane, operation, idempotency_key, body) \
         SELECT $1::text, $2::bigint, $3::text, $4::text, $5::boolean, r.lane, r.operation, r.key, r.body \
         FROM unnest($6::text[], $7::text[], $8::text[], $9::text[]) \
         WITH ORDINALITY AS r(lane, operation, key, body, at) ORDER BY r.at \
         ON CONFLICT (pipeline, idempotency_key) DO NOTHING",
        quote::table(schema, OUTBOX)
    );
    let epoch = epoch_number(commit.epoch)?;
    let bind = |rows: &[RenderedRequest]| BoundStatement {
        table: OUTBOX.to_owned(),
        sql: sql.clone(),
        params: vec![
            Box::new(pipeline.to_owned()),
            Box::new(epoch),
            Box::new(changes.table.name.clone()),
            Box::new(changes.table.target.clone()),
            Box::new(changes.table.is_sent_once()),
            Box::new(rows.iter().map(|row| row.lane.clone()).collect::<Vec<_>>()),
            Box::new(rows.iter().map(|row| row.operation).collect::<Vec<_>>()),
            Box::new(rows.iter().map(|row| row.idempotency_key.clone()).collect::<Vec<_>>()),
            Box::new(rows.iter().map(|row| row.body.clone()).collect::<Vec<_>>()),
        ],
    };
    Ok(rows.chunks(STATEMENT_ROWS).map(bind).collect())
}

/// The outbox of one pipeline.
pub struct Outbox {
    config: PostgresConfig,
    pipeline: String,
    versioned: Vec<String>,
}

impl Outbox {
    /// Does not connect yet.
    pub fn new(config: PostgresConfig, pipeline: impl Into<String>) -> Self {
        Self { config, pipeline: pipeline.into(), versioned: Vec::new() }
    }

    /// With the names of the results of which a delivered request supersedes older ones that were refused.
    pub fn with_versioned(self, versioned: Vec<String>) -> Self {
        Self { versioned, ..self }
    }

    /// The right to deliver, as long as its connection lasts; `None` while another process has it.
    ///
    /// # Errors
    /// If the database can't be reached.
    pub async fn turn(&self) -> Result<Option<Turn>, SinkError> {
        let deadline = ResponseDeadline::new(&self.config);
        deadline.enforce("asking for the turn", self.ask(&deadline)).await
    }

    async fn ask(&self, deadline: &ResponseDeadline) -> Result<Option<Turn>, SinkError> {
        let connection = Connection::open(&self.config, deadline).await?;
        let failed = |error| classify("asking for the turn to deliver the outbox", error);
        let name = format!("{} {}", self.config.schema, self.pipeline);
        let (holder, has_turn) = if connection.is_pooled() {
            let mut holder = Connection::open(&self.config, deadline).await?;
            holder.begin(HOLD, NO_TIMEOUT).await.map_err(failed)?;
            let has_turn = held(&holder, &name).await.map_err(failed)?;
            (Some(holder), has_turn)
        } else {
            let name: [(&(dyn ToSql + Sync), Type); 1] = [(&name, Type::TEXT)];
            let asked = connection.client.query_typed_one(LOCK, &name).await;
            (None, asked.and_then(|row| row.try_get(0)).map_err(failed)?)
        };
        if !has_turn {
            return Ok(None);
        }
        let mut turn = Turn {
            connection,
            holder,
            pipeline: self.pipeline.clone(),
            versioned: self.versioned.clone(),
            table: quote::table(&self.config.schema, OUTBOX),
            dead_letters: quote::table(&self.config.schema, DEAD_LETTERS),
            has_letters: false,
        };
        turn.has_letters = turn.finds_letters().await?;
        Ok(Some(turn))
    }

    /// How many rows wait.
    ///
    /// # Errors
    /// If the database can't be reached.
    pub async fn count(&self) -> Result<usize, SinkError> {
        let deadline = ResponseDeadline::new(&self.config);
        let connection = Connection::open(&self.config, &deadline).await?;
        let failed = |error| classify("counting the outbox", error);
        let sql = format!(
            "SELECT count(*) FROM {} WHERE pipeline = $1 AND delivered_at IS NULL",
            quote::table(&self.config.schema, OUTBOX)
        );
        let pipeline: [(&(dyn ToSql + Sync), Type); 1] = [(&self.pipeline, Type::TEXT)];
        let counted =
            async { connection.client.query_typed_one(&sql, &pipeline).await.map_err(failed) };
        let row = deadline.enforce("counting the outbox", counted).await?;
        Ok(row.try_get::<_, i64>(0).map_err(failed)?.unsigned_abs() as usize)
    }
}

/// See [`Outbox::turn`]. After an error it is to be dropped: what was settled is then not known.
pub struct Turn {
    connection: Connection,
    /// Behind a pooler in transaction mode, who holds the lock.
    holder: Option<Connection>,
    pipeline: String,
    versioned: Vec<String>,
    table: String,
    dead_letters: String,
    /// Refused requests may come back, or be superseded. Only the holder of the turn makes such letters.
    has_letters: bool,
}

impl Turn {
    /// The rows above `after` that wait, at most `limit`, in order.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn read(&mut self, after: i64, limit: usize) -> Result<Vec<OutboxRow>, SinkError> {
        let failed = |error| classify("reading the outbox", error);
        let sql = format!(
            "SELECT id, path, lane, operation, idempotency_key, body FROM {} \
             WHERE pipeline = $1 AND id > $2 AND delivered_at IS NULL ORDER BY id LIMIT $3",
            self.table
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&self.pipeline, Type::TEXT), (&after, Type::INT8), (&limit, Type::INT8)];
        self.check()?;
        let Connection { client, deadline, .. } = &self.connection;
        let read = async { client.query_typed(&sql, &params).await.map_err(failed) };
        let rows = deadline.enforce("reading the outbox", read).await?;
        rows.iter().map(|row| waiting(row).map_err(failed)).collect()
    }

    async fn finds_letters(&self) -> Result<bool, SinkError> {
        let failed = |error| classify("looking for refused requests", error);
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {} k WHERE k.pipeline = $1 AND {})",
            self.dead_letters,
            request_letters::is_open()
        );
        let pipeline: [(&(dyn ToSql + Sync), Type); 1] = [(&self.pipeline, Type::TEXT)];
        let row = self.connection.client.query_typed_one(&sql, &pipeline).await;
        row.and_then(|row| row.try_get(0)).map_err(failed)
    }

    /// Takes rows out that the API has answered, and tells dead letters: those that it refused become some, or stay
    /// what they are; the letter of a delivered one is replayed, and older ones of its key are superseded. One
    /// statement, so all of it or nothing.
    ///
    /// # Errors
    /// If the connection is lost; the rows may be out or not.
    pub async fn settle(
        &mut self,
        answered: &[i64],
        refused: &[RejectedRequest],
    ) -> Result<(), SinkError> {
        let failed = |error| classify("settling rows of the outbox", error);
        let sql = self.settle_sql();
        let ids: Vec<i64> = refused.iter().map(|row| row.id).collect();
        let reasons: Vec<&str> = refused.iter().map(|row| row.reason.as_str()).collect();
        let now = SystemTime::now();
        let params: [(&(dyn ToSql + Sync), Type); 6] = [
            (&answered, Type::INT8_ARRAY),
            (&ids, Type::INT8_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
            (&now, Type::TIMESTAMPTZ),
            (&self.versioned, Type::TEXT_ARRAY),
            (&self.has_letters, Type::BOOL),
        ];
        let Connection { client, deadline, .. } = &self.connection;
        let settled = async { client.execute_typed(&sql, &params).await.map_err(failed) };
        deadline.enforce("settling rows of the outbox", settled).await?;
        self.has_letters |= !refused.is_empty();
        Ok(())
    }

    fn settle_sql(&self) -> String {
        let outbox = &self.table;
        format!(
            "WITH {settling}, gone AS (DELETE FROM {outbox} WHERE id = ANY ($1) AND NOT is_once) \
             UPDATE {outbox} SET delivered_at = $4, body = '' WHERE id = ANY ($1) AND is_once",
            settling = request_letters::settling(&self.dead_letters, outbox),
        )
    }

    /// Forgets the keys of rows that are sent once and were delivered before that time; how many.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn forget(&mut self, before: SystemTime) -> Result<u64, SinkError> {
        let failed = |error| classify("forgetting rows of the outbox", error);
        let sql = format!(
            "DELETE FROM {} WHERE pipeline = $1 AND is_once AND delivered_at < $2",
            self.table
        );
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.pipeline, Type::TEXT), (&before, Type::TIMESTAMPTZ)];
        let Connection { client, deadline, .. } = &self.connection;
        let forgotten = async { client.execute_typed(&sql, &params).await.map_err(failed) };
        deadline.enforce("forgetting rows of the outbox", forgotten).await
    }

    /// Whether the lock is still ours.
    fn check(&self) -> Result<(), SinkError> {
        if !self.holder.as_ref().is_some_and(Connection::is_closed) {
            return Ok(());
        }
        Err(SinkError::Unavailable {
            doing: "delivering the outbox".to_owned(),
            source: "the connection that holds the turn is gone".into(),
        })
    }
}

/// The lock until the end of the transaction. A simple query: others keep their snapshot until the next one.
async fn held(holder: &Connection, name: &str) -> Result<bool, tokio_postgres::Error> {
    let lock = format!(
        "SELECT pg_try_advisory_xact_lock(hashtext('tidemark outbox'), hashtext({}))",
        quote::literal(name)
    );
    let answers = holder.client.simple_query(&lock).await?;
    Ok(answers.iter().any(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
        _ => false,
    }))
}

fn waiting(row: &Row) -> Result<OutboxRow, tokio_postgres::Error> {
    Ok(OutboxRow {
        id: row.try_get(0)?,
        path: row.try_get(1)?,
        lane: row.try_get(2)?,
        operation: row.try_get(3)?,
        idempotency_key: row.try_get(4)?,
        body: row.try_get(5)?,
    })
}
