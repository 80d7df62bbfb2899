//! The outbox: what the REST API is still to be told, written in the epoch's transaction.

use std::time::SystemTime;

use tokio_postgres::Row;

use super::config::PostgresConfig;
use super::connection::Connection;
use super::fault::classify;
use super::own_tables::OUTBOX;
use super::rows::Bound;
use super::{dead_letters, epoch_number, quote};
use crate::changelog::{EpochCommit, ResultChanges};
use crate::sink::SinkError;
use crate::sink::rest::{Outgoing, Refused, Waiting, render};

/// The most rows in one statement.
const STATEMENT_ROWS: usize = 1_000;
/// One process per pipeline and schema posts.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtext('tidemark outbox'), hashtext($1))";

/// The statements that add the changes of a result to the outbox.
///
/// A row with a known `idempotency_key` is not added again. That is how `-- sends: once` holds: such rows stay
/// when they are delivered, without their bodies.
pub(super) fn inserts(
    changes: &ResultChanges,
    commit: &EpochCommit,
    (schema, pipeline): (&str, &str),
) -> Result<Vec<Bound>, SinkError> {
    let rows = render(changes, (pipeline, commit.epoch, commit.closed_at))?;
    let sql = format!(
        "INSERT INTO {} (pipeline, epoch, result, path, is_once, lane, operation, idempotency_key, body) \
         SELECT $1::text, $2::bigint, $3::text, $4::text, $5::boolean, r.lane, r.operation, r.key, r.body \
         FROM unnest($6::text[], $7::text[], $8::text[], $9::text[]) \
         WITH ORDINALITY AS r(lane, operation, key, body, at) ORDER BY r.at \
         ON CONFLICT (pipeline, idempotency_key) DO NOTHING",
        quote::table(schema, OUTBOX)
    );
    let epoch = epoch_number(commit.epoch)?;
    let bind = |rows: &[Outgoing]| Bound {
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
}

impl Outbox {
    /// Does not connect yet.
    pub fn new(config: PostgresConfig, pipeline: impl Into<String>) -> Self {
        Self { config, pipeline: pipeline.into() }
    }

    /// The right to deliver, as long as its connection lasts; `None` while another process has it.
    ///
    /// # Errors
    /// If the database can't be reached.
    pub async fn turn(&self) -> Result<Option<Turn>, SinkError> {
        let connection = Connection::open(&self.config).await?;
        let failed = |error| classify("asking for the turn to deliver the outbox", error);
        let name = format!("{} {}", self.config.schema, self.pipeline);
        let row = connection.client.query_one(LOCK, &[&name]).await.map_err(failed)?;
        let has_turn: bool = row.try_get(0).map_err(failed)?;
        Ok(has_turn.then(|| Turn {
            connection,
            pipeline: self.pipeline.clone(),
            table: quote::table(&self.config.schema, OUTBOX),
            dead_letters: quote::table(&self.config.schema, dead_letters::TABLE),
        }))
    }

    /// How many rows wait.
    ///
    /// # Errors
    /// If the database can't be reached.
    pub async fn count(&self) -> Result<usize, SinkError> {
        let connection = Connection::open(&self.config).await?;
        let failed = |error| classify("counting the outbox", error);
        let sql = format!(
            "SELECT count(*) FROM {} WHERE pipeline = $1 AND delivered_at IS NULL",
            quote::table(&self.config.schema, OUTBOX)
        );
        let row = connection.client.query_one(&sql, &[&self.pipeline]).await.map_err(failed)?;
        Ok(row.try_get::<_, i64>(0).map_err(failed)?.unsigned_abs() as usize)
    }
}

/// See [`Outbox::turn`]. After an error it is to be dropped: what was settled is then not known.
pub struct Turn {
    connection: Connection,
    pipeline: String,
    table: String,
    dead_letters: String,
}

impl Turn {
    /// The rows above `after` that wait, at most `limit`, in order.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn read(&mut self, after: i64, limit: usize) -> Result<Vec<Waiting>, SinkError> {
        let failed = |error| classify("reading the outbox", error);
        let sql = format!(
            "SELECT id, path, lane, operation, idempotency_key, body FROM {} \
             WHERE pipeline = $1 AND id > $2 AND delivered_at IS NULL ORDER BY id LIMIT $3",
            self.table
        );
        let statement = self.connection.prepare(&sql).await.map_err(failed)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let client = &self.connection.client;
        let rows = client.query(&statement, &[&self.pipeline, &after, &limit]).await;
        let rows = rows.map_err(failed)?;
        rows.iter().map(|row| waiting(row).map_err(failed)).collect()
    }

    /// Takes rows out that the API has answered; those that it refused become dead letters. One statement, so
    /// all of it or nothing.
    ///
    /// # Errors
    /// If the connection is lost; the rows may be out or not.
    pub async fn settle(&mut self, answered: &[i64], refused: &[Refused]) -> Result<(), SinkError> {
        let failed = |error| classify("settling rows of the outbox", error);
        let sql = format!(
            "WITH dead AS ( \
               INSERT INTO {dead} (original_topic, error_type, error_message, phase, original_payload, \
               properties, event_id, first_failure, last_failure, consumer_id) \
               SELECT o.path, 'REST_REFUSED', r.reason, 'rest', convert_to(o.body, 'UTF8'), \
               jsonb_build_object('result', o.result, 'operation', o.operation, \
               'idempotency_key', o.idempotency_key), 'rest:' || o.idempotency_key, $4, $4, o.pipeline \
               FROM unnest($2::bigint[], $3::text[]) AS r(id, reason) JOIN {outbox} o ON o.id = r.id \
               ON CONFLICT DO NOTHING \
             ), gone AS (DELETE FROM {outbox} WHERE id = ANY ($1::bigint[]) AND NOT is_once) \
             UPDATE {outbox} SET delivered_at = $4, body = '' WHERE id = ANY ($1::bigint[]) AND is_once",
            dead = self.dead_letters,
            outbox = self.table
        );
        let statement = self.connection.prepare(&sql).await.map_err(failed)?;
        let ids: Vec<i64> = refused.iter().map(|row| row.id).collect();
        let reasons: Vec<&str> = refused.iter().map(|row| row.reason.as_str()).collect();
        let client = &self.connection.client;
        let now = SystemTime::now();
        client.execute(&statement, &[&answered, &ids, &reasons, &now]).await.map_err(failed)?;
        Ok(())
    }
}

fn waiting(row: &Row) -> Result<Waiting, tokio_postgres::Error> {
    Ok(Waiting {
        id: row.try_get(0)?,
        path: row.try_get(1)?,
        lane: row.try_get(2)?,
        operation: row.try_get(3)?,
        idempotency_key: row.try_get(4)?,
        body: row.try_get(5)?,
    })
}
