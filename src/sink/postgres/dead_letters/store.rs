//! Dead letters as they are looked at, asked for again, published and thrown away.
//!
//! Epochs write them ([`super::letter_table`]) and say what became of those that were processed again
//! ([`super::replay_outcomes`]).

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type, accepts};

use super::letter_table::CAN_COME_BACK;
use crate::model::LetterStatus::{self, Dead, Requested};
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::client::session::DatabaseSession;
use crate::sink::postgres::config::PostgresConfig;
use crate::sink::postgres::schema::system_tables::DEAD_LETTERS;

/// The dead letters of one pipeline.
pub struct LetterStore {
    session: DatabaseSession,
    pipeline: String,
    pub(crate) table: String,
}

/// Which dead letters; what is empty or `None` says nothing.
#[derive(Debug, Clone, Default)]
pub struct LetterFilter {
    pub ids: Vec<i64>,
    pub error_types: Vec<String>,
    pub phases: Vec<String>,
    pub statuses: Vec<LetterStatus>,
    /// `SCHEMA.TABLE` or `TABLE`, in any case.
    pub table: Option<String>,
    /// With `*` for any characters.
    pub topic: Option<String>,
    /// By the last failure.
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
}

/// A dead letter with all that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredLetter {
    pub id: i64,
    /// The message's position in its queue, as the vendor writes it; `None` for a row of a result.
    pub event_id: Option<String>,
    pub topic: String,
    /// The payload exactly as it came; empty in a list, and where it is too large to be published.
    pub payload: Bytes,
    /// How many bytes the payload has in the table.
    pub payload_bytes: usize,
    /// User properties, or what else is known of a row that is no event: a JSON object.
    pub properties: serde_json::Value,
    pub phase: String,
    pub error_type: String,
    pub message: String,
    pub table: Option<String>,
    pub column: Option<String>,
    pub retry_count: i32,
    pub first_failure: SystemTime,
    pub last_failure: SystemTime,
    pub consumer_id: Option<String>,
    pub pipeline: Option<String>,
    /// `dead`, `requested`, `queued` (in the outbox), `replayed` or `superseded`.
    pub status: LetterStatus,
    pub settled_at: Option<SystemTime>,
    pub published_at: Option<SystemTime>,
}

/// How many dead letters are alike.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LetterCount {
    pub status: LetterStatus,
    pub error_type: String,
    pub phase: String,
    pub table: Option<String>,
    pub count: i64,
    #[serde(with = "humantime_serde")]
    pub first_failure: SystemTime,
    #[serde(with = "humantime_serde")]
    pub last_failure: SystemTime,
}

/// What became of a letter that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterState {
    pub id: i64,
    /// `None` for a row of a result.
    pub event_id: Option<String>,
    pub phase: String,
    pub status: LetterStatus,
    pub error_type: String,
    pub message: String,
}

/// Letters that nothing final has become of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenLetters {
    pub count: u64,
    /// Since the first failure of the oldest one; zero if there is none.
    pub oldest: Duration,
}

/// Those that come first when not all are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterOrder {
    Newest,
    Oldest,
}

/// What [`letter`] reads, with the payload or something in its place.
pub(super) fn columns(payload: &str) -> String {
    format!(
        "id, event_id, original_topic, {payload}, COALESCE(properties, '{{}}'), phase, error_type, \
         error_message, source_table, column_name, retry_count, first_failure, last_failure, consumer_id, \
         pipeline, status, settled_at, published_at, octet_length(original_payload)"
    )
}

/// Parameters 1 to 9. Letters of before there were pipelines in the table belong to every pipeline.
pub(super) const WHERE: &str = "(pipeline = $1 OR pipeline IS NULL) \
     AND ($2::bigint[] = '{}' OR id = ANY ($2)) \
     AND ($3::text[] = '{}' OR error_type = ANY ($3)) \
     AND ($4::text[] = '{}' OR phase = ANY ($4)) \
     AND ($5::text[] = '{}' OR status = ANY ($5)) \
     AND ($6::text IS NULL OR $6 IN (upper(source_table), upper(split_part(source_table, '.', 2)))) \
     AND ($7::text IS NULL OR original_topic LIKE $7) \
     AND ($8::timestamptz IS NULL OR last_failure >= $8) \
     AND ($9::timestamptz IS NULL OR last_failure < $9)";

/// The index `tidemark_open_letters` is for these.
const IS_OPEN: &str = "status IN ('dead', 'requested', 'queued')";

const IS_AT_REST: &str = "status NOT IN ('requested', 'queued')";

/// The first so many.
pub(super) const LIMIT: &str = "LIMIT $10::bigint";

impl LetterStore {
    /// Does not connect yet.
    pub fn new(config: PostgresConfig, pipeline: impl Into<String>) -> Self {
        let table = quote::table(&config.schema, DEAD_LETTERS);
        Self { session: DatabaseSession::unchecked(config), pipeline: pipeline.into(), table }
    }

    /// At most `limit` letters, without their payloads.
    ///
    /// # Errors
    /// If the database can't be asked.
    pub async fn list(
        &mut self,
        filter: &LetterFilter,
        order: LetterOrder,
        limit: i64,
    ) -> Result<Vec<StoredLetter>, SinkError> {
        let order = match order {
            LetterOrder::Newest => "last_failure DESC, id DESC",
            LetterOrder::Oldest => "id",
        };
        let sql = format!(
            "SELECT {} FROM {} WHERE {WHERE} ORDER BY {order} {LIMIT}",
            columns("''::bytea"),
            self.table
        );
        self.ask("listing dead letters", &sql, Some(filter), &[&limit], letter).await
    }

    /// Counts by status, type, phase and table; the most frequent first.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn count(&mut self, filter: &LetterFilter) -> Result<Vec<LetterCount>, SinkError> {
        let sql = format!(
            "SELECT status, error_type, phase, source_table, count(*), min(first_failure), \
             max(last_failure) FROM {} WHERE {WHERE} GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2, 3, 4",
            self.table
        );
        self.ask("counting dead letters", &sql, Some(filter), &[], letter_count).await
    }

    /// Asks the processor to process letters again that are dead; their ids.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn request(
        &mut self,
        filter: &LetterFilter,
        limit: i64,
    ) -> Result<Vec<i64>, SinkError> {
        let sql = format!(
            "UPDATE {table} SET status = '{Requested}', pipeline = $1 WHERE id IN (\
             SELECT id FROM {table} WHERE {WHERE} AND status = '{Dead}' AND {CAN_COME_BACK} \
             ORDER BY id {LIMIT} FOR UPDATE) RETURNING id",
            table = self.table
        );
        let doing = "asking for dead letters to be processed again";
        self.ask(doing, &sql, Some(filter), &[&limit], |row| row.try_get(0)).await
    }

    /// Takes back what no processor has done yet; how many.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn withdraw(&mut self, ids: &[i64]) -> Result<usize, SinkError> {
        let sql = format!(
            "UPDATE {} SET status = '{Dead}' WHERE status = '{Requested}' AND pipeline = $1 \
             AND id = ANY ($2::bigint[]) RETURNING id",
            self.table
        );
        let doing = "taking requests back";
        let ids = self.ask(doing, &sql, None, &[&ids], |row| row.try_get::<_, i64>(0)).await?;
        Ok(ids.len())
    }

    /// Of these letters, those that nobody asks for any more. A request in the outbox is among them.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn answered(&mut self, ids: &[i64]) -> Result<Vec<LetterState>, SinkError> {
        let sql = format!(
            "SELECT id, event_id, phase, status, error_type, error_message FROM {} \
             WHERE pipeline = $1 AND id = ANY ($2::bigint[]) AND status <> '{Requested}' ORDER BY id",
            self.table
        );
        self.ask("waiting for a replay", &sql, None, &[&ids], letter_state).await
    }

    /// Deletes letters, but not those that are asked for or under way; how many.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn purge(&mut self, filter: &LetterFilter) -> Result<u64, SinkError> {
        let sql = format!(
            "WITH gone AS (DELETE FROM {} WHERE {WHERE} AND {IS_AT_REST} RETURNING 1) \
             SELECT count(*) FROM gone",
            self.table
        );
        self.number("purging dead letters", &sql, Some(filter), &[]).await
    }

    /// Deletes letters of this pipeline with one of these statuses that were resolved, or have failed last, before
    /// `before`; with `published` only those that were published. How many.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn expire(
        &mut self,
        before: SystemTime,
        statuses: &[LetterStatus],
        published: bool,
    ) -> Result<u64, SinkError> {
        let sql = format!(
            "WITH gone AS (DELETE FROM {} WHERE pipeline = $1 AND {IS_AT_REST} AND status = ANY ($3::text[]) \
             AND GREATEST(last_failure, settled_at) < $2 \
             AND (NOT $4::boolean OR published_at IS NOT NULL) RETURNING 1) \
             SELECT count(*) FROM gone",
            self.table
        );
        let statuses: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
        let params: [&(dyn ToSql + Sync); 3] = [&before, &statuses, &published];
        self.number("deleting old dead letters", &sql, None, &params).await
    }

    /// How many letters nothing final has become of, and how long ago the first of them has failed.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn open_letters(&mut self) -> Result<OpenLetters, SinkError> {
        let sql = format!(
            "SELECT count(*), EXTRACT(EPOCH FROM now() - min(first_failure))::float8 FROM {} \
             WHERE pipeline = $1 AND {IS_OPEN}",
            self.table
        );
        let row = |row: &Row| {
            let (count, age): (i64, Option<f64>) = (row.try_get(0)?, row.try_get(1)?);
            let oldest = Duration::try_from_secs_f64(age.unwrap_or_default()).unwrap_or_default();
            Ok(OpenLetters { count: count.unsigned_abs(), oldest })
        };
        let found = self.ask("counting open dead letters", &sql, None, &[], row).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// Whether somebody waits for letters to be processed again.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn has_requests(&mut self) -> Result<bool, SinkError> {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {} WHERE status = '{Requested}' AND pipeline = $1)",
            self.table
        );
        let asked = self.ask("looking for replays", &sql, None, &[], |row| row.try_get(0)).await?;
        Ok(asked.first().copied().unwrap_or(false))
    }

    /// Notes that these were published.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn published(&mut self, ids: &[i64]) -> Result<(), SinkError> {
        let sql = format!(
            "UPDATE {} SET published_at = now() WHERE pipeline = $1 AND id = ANY ($2::bigint[]) \
             RETURNING id",
            self.table
        );
        let doing = "noting published dead letters";
        self.ask(doing, &sql, None, &[&ids], |row| row.try_get::<_, i64>(0)).await?;
        Ok(())
    }

    async fn number(
        &mut self,
        doing: &str,
        sql: &str,
        filter: Option<&LetterFilter>,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, SinkError> {
        let counts = self.ask(doing, sql, filter, more, |row| row.try_get::<_, i64>(0)).await?;
        Ok(counts.first().map_or(0, |count| count.unsigned_abs()))
    }

    /// The pipeline is the first parameter, then those of the filter, if there is one.
    pub(crate) async fn ask<T>(
        &mut self,
        doing: &str,
        sql: &str,
        filter: Option<&LetterFilter>,
        more: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<Vec<T>, SinkError> {
        let table = filter.and_then(|filter| filter.table.as_ref().map(|t| t.to_uppercase()));
        let topic = filter.and_then(|filter| filter.topic.as_ref().map(|t| like(t)));
        let statuses: Vec<&str> =
            filter.iter().flat_map(|it| &it.statuses).map(|status| status.as_str()).collect();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&self.pipeline];
        if let Some(filter) = filter {
            let LetterFilter { ids, error_types, phases, since, until, .. } = filter;
            params.extend::<[&(dyn ToSql + Sync); 8]>([
                ids,
                error_types,
                phases,
                &statuses,
                &table,
                &topic,
                since,
                until,
            ]);
        }
        params.extend(more);
        let asked = async |connection: &mut Connection| {
            let failed = |error| classify(doing, error);
            // A pooler in transaction mode keeps a prepared statement no longer than that.
            connection.begin("", "").await.map_err(failed)?;
            let statement = connection.prepare(sql).await.map_err(failed)?;
            let rows = connection.client.query(&statement, &params).await.map_err(failed)?;
            connection.commit().await.map_err(failed)?;
            // One by one: a large row goes when it is read.
            let rows = rows.into_iter().map(|row| read(&row));
            rows.collect::<Result<Vec<T>, _>>().map_err(failed)
        };
        self.session.with_connection(doing, asked).await
    }
}

/// A pattern with `*` as one of LIKE.
fn like(pattern: &str) -> String {
    let mut like = String::with_capacity(pattern.len());
    for c in pattern.chars() {
        match c {
            '*' => like.push('%'),
            '%' | '_' | '\\' => like.extend(['\\', c]),
            _ => like.push(c),
        }
    }
    like
}

impl<'a> FromSql<'a> for LetterStatus {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let text = std::str::from_utf8(raw)?;
        Self::parse(text).ok_or_else(|| format!("no status of a dead letter: {text}").into())
    }

    accepts!(TEXT, VARCHAR);
}

pub(crate) fn letter(row: &Row) -> Result<StoredLetter, tokio_postgres::Error> {
    let payload_bytes: i32 = row.try_get(18)?;
    Ok(StoredLetter {
        id: row.try_get(0)?,
        event_id: row.try_get(1)?,
        topic: row.try_get(2)?,
        payload: row.try_get::<_, Vec<u8>>(3)?.into(),
        payload_bytes: usize::try_from(payload_bytes).unwrap_or_default(),
        properties: row.try_get(4)?,
        phase: row.try_get(5)?,
        error_type: row.try_get(6)?,
        message: row.try_get(7)?,
        table: row.try_get(8)?,
        column: row.try_get(9)?,
        retry_count: row.try_get(10)?,
        first_failure: row.try_get(11)?,
        last_failure: row.try_get(12)?,
        consumer_id: row.try_get(13)?,
        pipeline: row.try_get(14)?,
        status: row.try_get(15)?,
        settled_at: row.try_get(16)?,
        published_at: row.try_get(17)?,
    })
}

fn letter_state(row: &Row) -> Result<LetterState, tokio_postgres::Error> {
    Ok(LetterState {
        id: row.try_get(0)?,
        event_id: row.try_get(1)?,
        phase: row.try_get(2)?,
        status: row.try_get(3)?,
        error_type: row.try_get(4)?,
        message: row.try_get(5)?,
    })
}

fn letter_count(row: &Row) -> Result<LetterCount, tokio_postgres::Error> {
    Ok(LetterCount {
        status: row.try_get(0)?,
        error_type: row.try_get(1)?,
        phase: row.try_get(2)?,
        table: row.try_get(3)?,
        count: row.try_get(4)?,
        first_failure: row.try_get(5)?,
        last_failure: row.try_get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        assert_eq!(like("cdc/*/ORDER_ITEMS/*"), "cdc/%/ORDER\\_ITEMS/%");
        assert_eq!(like("100%\\"), "100\\%\\\\");
    }
}
