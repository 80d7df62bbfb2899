//! The ledger: what was committed, by whom, and where to go on.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::time::SystemTime;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use tokio_postgres::{Client, Error, Row};

use crate::model::{
    Epoch, EpochCommit, LedgerPosition, Offset, OffsetSet, ResultTable, SpoolOrder,
};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::{classify, is_unique_violation};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::dead_letters::letter_table::WrittenBy;
use crate::sink::postgres::schema::system_tables::{
    COMMITTED, GAPS, LEDGER, RESULTS, SPOOLS, epoch_number,
};
use crate::sink::postgres::schema::wire_format::POSTGRES_EPOCH_MICROS;
use crate::sink::postgres::target::rows::{BoundStatement, StatementParams};
use crate::sink::{DataError, LedgerRow, SinkError, landed_counts, result_counts};

/// The ledger of one pipeline in one schema.
pub(crate) struct Ledger {
    pub(crate) pipeline: String,
    pub(crate) run_id: String,
    ledger: String,
    spools: String,
    committed: String,
    results: String,
    gaps: String,
}

impl Ledger {
    pub(crate) fn new(schema: &str, pipeline: String, run_id: String) -> Self {
        let [ledger, spools, committed, results, gaps] =
            [LEDGER, SPOOLS, COMMITTED, RESULTS, GAPS].map(|table| quote::table(schema, table));
        Self { pipeline, run_id, ledger, spools, committed, results, gaps }
    }

    /// Who writes letters of an epoch that was closed then.
    pub(crate) fn written_by(&self, closed_at: SystemTime) -> WrittenBy<'_> {
        WrittenBy { pipeline: &self.pipeline, run_id: &self.run_id, closed_at }
    }

    /// The ledger row of an epoch. It is inserted only if the epoch is above all others: compaction
    /// removes old rows, so that the primary key alone would let a straggler in.
    pub(crate) fn insert(&self, commit: &EpochCommit) -> Result<BoundStatement, SinkError> {
        let sql = format!(
            "INSERT INTO {ledger} (pipeline, epoch, queue, run_id, spools, offsets, landed, \
             results, dead_letters, watermark, opened_at, closed_at) \
             SELECT $1::text, $2::bigint, $3::text, $4::text, $5::text[], \
             $6::text[]::int8multirange[], $7::jsonb, $8::jsonb, $9::bigint, $10::timestamp, \
             $11::timestamptz, $12::timestamptz \
             WHERE NOT EXISTS (SELECT FROM {ledger} WHERE pipeline = $1 AND epoch >= $2)",
            ledger = self.ledger
        );
        let (spools, offsets) = multiranges(&commit.offsets)?;
        let json = |value: serde_json::Result<serde_json::Value>| {
            value.map_err(|error| ledger_misfit(error.to_string()))
        };
        Ok(BoundStatement {
            table: LEDGER.to_owned(),
            sql,
            params: vec![
                Box::new(self.pipeline.clone()),
                Box::new(epoch_number(commit.epoch)?),
                Box::new(commit.queue.clone()),
                Box::new(self.run_id.clone()),
                Box::new(spools),
                Box::new(offsets),
                Box::new(json(serde_json::to_value(landed_counts(commit)))?),
                Box::new(json(serde_json::to_value(result_counts(commit)))?),
                Box::new(commit.dead_letters.len() as i64),
                Box::new(commit.watermark.map(Micros)),
                Box::new(commit.opened_at),
                Box::new(commit.closed_at),
            ],
        })
    }

    /// Writes an epoch's ledger row; `false` if the epoch is not above all others.
    pub(crate) async fn is_taken(
        &self,
        connection: &mut Connection,
        row: &BoundStatement,
    ) -> Result<bool, SinkError> {
        match row.execute(connection).await {
            Ok(count) => Ok(count == 1),
            // Two commits of one epoch at the same moment: the other one was faster.
            Err(SinkError::Data(error)) if is_taken_already(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Counts rows of results that were refused.
    pub(crate) fn add_dead_letters(
        &self,
        epoch: Epoch,
        count: usize,
    ) -> Result<BoundStatement, SinkError> {
        let sql = format!(
            "UPDATE {} SET dead_letters = dead_letters + $3::bigint \
             WHERE pipeline = $1::text AND epoch = $2::bigint",
            self.ledger
        );
        let params: StatementParams = vec![
            Box::new(self.pipeline.clone()),
            Box::new(epoch_number(epoch)?),
            Box::new(count as i64),
        ];
        Ok(BoundStatement { table: LEDGER.to_owned(), sql, params })
    }

    /// Adds the spools that the ledger does not know.
    pub(crate) fn insert_spools(&self, commit: &EpochCommit) -> BoundStatement {
        let sql = format!(
            "INSERT INTO {spools} (pipeline, queue, generation, spool) \
             SELECT $1::text, $2::text, s.number - 1, s.spool \
             FROM unnest($3::text[]) WITH ORDINALITY AS s(spool, number) \
             ON CONFLICT (pipeline, queue, spool) DO NOTHING",
            spools = self.spools
        );
        let spools: Vec<String> = commit.spools.spools().iter().map(|s| spool_text(*s)).collect();
        BoundStatement {
            table: SPOOLS.to_owned(),
            sql,
            params: vec![
                Box::new(self.pipeline.clone()),
                Box::new(commit.queue.clone()),
                Box::new(spools),
            ],
        }
    }

    /// Notes under which definition the rows of a result are written from now on.
    pub(crate) fn define_result(&self, result: &ResultTable) -> BoundStatement {
        let sql = format!(
            "INSERT INTO {} (pipeline, result, definition) VALUES ($1::text, $2::text, $3::text) \
             ON CONFLICT (pipeline, result) \
             DO UPDATE SET definition = EXCLUDED.definition, written_at = EXCLUDED.written_at",
            self.results
        );
        BoundStatement {
            table: RESULTS.to_owned(),
            sql,
            params: vec![
                Box::new(self.pipeline.clone()),
                Box::new(result.name.clone()),
                Box::new(result.definition.clone()),
            ],
        }
    }

    /// Forgets under which definition the rows of these results were written.
    pub(crate) fn retire_results(&self, names: &[String]) -> BoundStatement {
        BoundStatement {
            table: RESULTS.to_owned(),
            sql: format!(
                "DELETE FROM {} WHERE pipeline = $1::text AND result = ANY ($2::text[])",
                self.results
            ),
            params: vec![Box::new(self.pipeline.clone()), Box::new(names.to_vec())],
        }
    }

    /// Remembers that rows of these results were refused.
    pub(crate) fn note_gaps(&self, names: Vec<String>) -> BoundStatement {
        let sql = format!(
            "INSERT INTO {} (pipeline, result) SELECT DISTINCT $1::text, name \
             FROM unnest($2::text[]) AS refused(name) ON CONFLICT DO NOTHING",
            self.gaps
        );
        let params: StatementParams = vec![Box::new(self.pipeline.clone()), Box::new(names)];
        BoundStatement { table: GAPS.to_owned(), sql, params }
    }

    /// Forgets that, because these results are written anew or not any more.
    pub(crate) fn close_gaps(&self, names: &[String]) -> BoundStatement {
        let sql = format!(
            "DELETE FROM {} WHERE pipeline = $1::text AND result = ANY ($2::text[])",
            self.gaps
        );
        let params: StatementParams =
            vec![Box::new(self.pipeline.clone()), Box::new(names.to_vec())];
        BoundStatement { table: GAPS.to_owned(), sql, params }
    }

    /// Results of which rows were refused.
    pub(crate) async fn gaps(&self, client: &Client) -> Result<HashSet<String>, SinkError> {
        let sql = format!("SELECT result FROM {} WHERE pipeline = $1", self.gaps);
        let failed = |error| classify("reading which results lack rows", error);
        let asked: [(&(dyn ToSql + Sync), Type); 1] = [(&self.pipeline, Type::TEXT)];
        let rows = client.query_typed(&sql, &asked).await.map_err(failed)?;
        rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
    }

    /// Text of the query that asks who committed epoch `$2` of pipeline `$1`.
    pub(crate) fn committer_sql(&self) -> String {
        format!("SELECT run_id FROM {} WHERE pipeline = $1 AND epoch = $2", self.ledger)
    }

    /// The parameters of [`Self::committer_sql`].
    pub(crate) fn of_epoch<'a>(&'a self, epoch: &'a i64) -> [(&'a (dyn ToSql + Sync), Type); 2] {
        [(&self.pipeline, Type::TEXT), (epoch, Type::INT8)]
    }

    /// Whether this run has committed the epoch.
    pub(crate) async fn is_ours(
        &self,
        connection: &Connection,
        epoch: Epoch,
    ) -> Result<bool, SinkError> {
        let failed = |error| classify("asking the ledger who committed an epoch", error);
        let (sql, epoch) = (self.committer_sql(), epoch_number(epoch)?);
        let row = connection.client.query_typed_opt(&sql, &self.of_epoch(&epoch)).await;
        let row = row.map_err(failed)?;
        self.is_run(row.as_ref()).map_err(failed)
    }

    /// Whether a row of [`Self::committer_sql`] names this run.
    pub(crate) fn is_run(&self, row: Option<&Row>) -> Result<bool, Error> {
        let Some(row) = row else { return Ok(false) };
        Ok(row.try_get::<_, &str>(0)? == self.run_id)
    }

    /// Where to go on with a queue.
    pub(crate) async fn position(
        &self,
        client: &Client,
        queue: &str,
    ) -> Result<LedgerPosition, SinkError> {
        let failed = |error| classify("reading the ledger", error);
        let newest = format!(
            "SELECT epoch, watermark FROM {} WHERE pipeline = $1 ORDER BY epoch DESC LIMIT 1",
            self.ledger
        );
        let newest = client.query_opt(&newest, &[&self.pipeline]).await.map_err(failed)?;
        let mut position = LedgerPosition::default();
        if let Some(row) = newest {
            position.epoch = Some(Epoch(row.try_get::<_, i64>(0).map_err(failed)? as u64));
            let watermark: Option<Micros> = row.try_get(1).map_err(failed)?;
            position.watermark = watermark.map(|micros| micros.0);
        }
        let offsets = format!(
            "SELECT s.spool, s.offsets::text FROM {}, unnest(spools, offsets) AS s(spool, offsets) \
             WHERE pipeline = $1 AND queue = $2 \
             UNION ALL SELECT spool, offsets::text FROM {} WHERE pipeline = $1 AND queue = $2",
            self.ledger, self.committed
        );
        for row in client.query(&offsets, &[&self.pipeline, &queue]).await.map_err(failed)? {
            let (spool, ranges) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            add_multirange(&mut position.offsets, spool, ranges)?;
        }
        let spools = format!(
            "SELECT spool FROM {} WHERE pipeline = $1 AND queue = $2 ORDER BY generation",
            self.spools
        );
        let mut order = Vec::new();
        for row in client.query(&spools, &[&self.pipeline, &queue]).await.map_err(failed)? {
            order.push(parse_spool(row.try_get(0).map_err(failed)?)?);
        }
        position.spools = SpoolOrder::new(order);
        let definitions =
            format!("SELECT result, definition FROM {} WHERE pipeline = $1", self.results);
        for row in client.query(&definitions, &[&self.pipeline]).await.map_err(failed)? {
            let (result, definition) = (row.try_get(0), row.try_get(1));
            position.definitions.insert(result.map_err(failed)?, definition.map_err(failed)?);
        }
        Ok(position)
    }

    /// At most `limit` rows above `after` in order of epochs.
    pub(crate) async fn rows(
        &self,
        client: &Client,
        after: Option<Epoch>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, SinkError> {
        let failed = |error| classify("reading the ledger", error);
        let sql = format!(
            "SELECT epoch, queue, run_id, spools, offsets::text[], landed, results, dead_letters, \
             watermark, opened_at, closed_at, committed_at FROM {} \
             WHERE pipeline = $1 AND epoch > $2 ORDER BY epoch LIMIT $3",
            self.ledger
        );
        let after = after.map_or(Ok(-1), epoch_number)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&self.pipeline, Type::TEXT), (&after, Type::INT8), (&limit, Type::INT8)];
        let rows = client.query_typed(&sql, &params).await.map_err(failed)?;
        rows.iter().map(ledger_row).collect()
    }

    /// Moves the offsets of epochs up to `up_to`, but never of the newest one, to the table of
    /// committed ranges; says how many ledger rows that saved. One statement, so one transaction.
    pub(crate) async fn compact(&self, client: &Client, up_to: Epoch) -> Result<u64, SinkError> {
        let sql = format!(
            "WITH old AS ( \
               DELETE FROM {ledger} WHERE pipeline = $1 AND epoch <= $2 \
               AND epoch < (SELECT max(epoch) FROM {ledger} WHERE pipeline = $1) \
               RETURNING queue, spools, offsets \
             ), merged AS ( \
               INSERT INTO {committed} AS c (pipeline, queue, spool, offsets) \
               SELECT $1, old.queue, s.spool, range_agg(r) \
               FROM old, unnest(old.spools, old.offsets) AS s(spool, offsets), unnest(s.offsets) AS r \
               GROUP BY old.queue, s.spool \
               ON CONFLICT (pipeline, queue, spool) DO UPDATE SET offsets = c.offsets + EXCLUDED.offsets \
             ) SELECT count(*) FROM old",
            ledger = self.ledger,
            committed = self.committed
        );
        let failed = |error| classify("compacting the ledger", error);
        let up_to = epoch_number(up_to)?;
        let row = client.query_typed_one(&sql, &self.of_epoch(&up_to)).await;
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(failed)?;
        Ok(count.unsigned_abs())
    }
}

fn is_taken_already(error: &DataError) -> bool {
    let cause = error.source.as_ref().and_then(|cause| cause.downcast_ref::<Error>());
    cause.is_some_and(is_unique_violation)
}

fn ledger_row(row: &Row) -> Result<LedgerRow, SinkError> {
    let failed = |error| classify("reading the ledger", error);
    let unreadable = |error: serde_json::Error| unreadable(error.to_string());
    let mut offsets = OffsetSet::default();
    let spools: Vec<&str> = row.try_get(3).map_err(failed)?;
    let ranges: Vec<&str> = row.try_get(4).map_err(failed)?;
    for (spool, ranges) in spools.into_iter().zip(ranges) {
        add_multirange(&mut offsets, spool, ranges)?;
    }
    let watermark: Option<Micros> = row.try_get(8).map_err(failed)?;
    Ok(LedgerRow {
        epoch: Epoch(row.try_get::<_, i64>(0).map_err(failed)? as u64),
        queue: row.try_get(1).map_err(failed)?,
        run_id: row.try_get(2).map_err(failed)?,
        offsets,
        landed: serde_json::from_value(row.try_get(5).map_err(failed)?).map_err(unreadable)?,
        results: serde_json::from_value(row.try_get(6).map_err(failed)?).map_err(unreadable)?,
        dead_letters: row.try_get::<_, i64>(7).map_err(failed)?.unsigned_abs(),
        watermark: watermark.map(|micros| micros.0),
        opened_at: row.try_get(9).map_err(failed)?,
        closed_at: row.try_get(10).map_err(failed)?,
        committed_at: row.try_get(11).map_err(failed)?,
    })
}

fn ledger_misfit(message: String) -> SinkError {
    let table = Some(LEDGER.to_owned());
    SinkError::Data(DataError { table, column: None, row: None, message, source: None })
}

fn unreadable(what: String) -> SinkError {
    SinkError::Unreadable { table: LEDGER.to_owned(), what }
}

fn spool_text(spool: u64) -> String {
    format!("{spool:016x}")
}

fn parse_spool(text: &str) -> Result<u64, SinkError> {
    u64::from_str_radix(text, 16).map_err(|_| unreadable(format!("the spool '{text}'")))
}

/// The spools of a set, and for each its ids as the text of an int8multirange.
fn multiranges(offsets: &OffsetSet) -> Result<(Vec<String>, Vec<String>), SinkError> {
    let (mut spools, mut texts): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut current = None;
    for (first, last) in offsets.ranges() {
        // Postgres stores [a,b] as [a,b+1), so the highest bigint has no place.
        if last >= i64::MAX as u64 {
            return Err(ledger_misfit(format!("the message id {last} is above 2^63")));
        }
        if current != Some(first.spool) {
            current = Some(first.spool);
            spools.push(spool_text(first.spool));
            texts.push(String::new());
        }
        if let Some(text) = texts.last_mut() {
            let separator = if text.is_empty() { "" } else { "," };
            text.push_str(&format!("{separator}[{},{last}]", first.id));
        }
    }
    for text in &mut texts {
        *text = format!("{{{text}}}");
    }
    Ok((spools, texts))
}

/// Adds ranges such as `{[1,5),[9,10)}`.
fn add_multirange(set: &mut OffsetSet, spool: &str, text: &str) -> Result<(), SinkError> {
    let refuse = || unreadable(format!("the offsets '{text}' of spool {spool}"));
    let spool = parse_spool(spool)?;
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(refuse)?;
    for range in inner.split_terminator("),").filter(|range| !range.is_empty()) {
        let range = range.strip_suffix(')').unwrap_or(range).strip_prefix('[');
        let (first, end) = range.and_then(|r| r.split_once(',')).ok_or_else(refuse)?;
        let (first, end): (u64, u64) = match (first.parse(), end.parse()) {
            (Ok(first), Ok(end)) if first < end => (first, end),
            _ => return Err(refuse()),
        };
        set.insert_range(Offset::new(spool, first), end - 1);
    }
    Ok(())
}

/// Microseconds since 1970 as a Postgres timestamp.
#[derive(Debug, Clone, Copy)]
struct Micros(i64);

impl ToSql for Micros {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let micros = self.0.checked_sub(POSTGRES_EPOCH_MICROS);
        out.put_i64(micros.ok_or("the timestamp is before what Postgres can hold")?);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMP);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(micros.checked_add(POSTGRES_EPOCH_MICROS).ok_or("a timestamp out of range")?))
    }

    accepts!(TIMESTAMP);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_survive_the_text_of_multiranges() {
        let mut set = OffsetSet::default();
        set.insert_range(Offset::new(1, 5), 9);
        set.insert_range(Offset::new(1, 20), 20);
        set.insert_range(Offset::new(u64::MAX, 0), 3);
        let (spools, texts) = multiranges(&set).unwrap();
        assert_eq!(spools, ["0000000000000001", "ffffffffffffffff"]);
        assert_eq!(texts, ["{[5,9],[20,20]}", "{[0,3]}"]);
        let mut read = OffsetSet::default();
        add_multirange(&mut read, &spools[0], "{[5,10),[20,21)}").unwrap();
        add_multirange(&mut read, &spools[1], "{[0,4)}").unwrap();
        add_multirange(&mut read, &spools[1], "{}").unwrap();
        assert_eq!(read, set);
    }

    #[test]
    fn foreign_text_is_refused() {
        for text in ["", "{[1,)}", "{(,5)}", "{[5,5)}", "[1,2)"] {
            assert!(add_multirange(&mut OffsetSet::default(), "1", text).is_err(), "{text}");
        }
    }
}
