//! The ledger: what was committed, by whom, and where to go on.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::ledger_values::{
    Micros, Ranges, add_range, ledger_misfit, ledger_row, parse_spool, spool_text,
};
use crate::model::{Epoch, EpochCommit, Generation, Generations, LedgerPosition, ResultTable};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::{classify, is_unique_violation};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::dead_letters::letter_table::WrittenBy;
use crate::sink::postgres::schema::system_tables::{
    COMMITTED, GAPS, LEDGER, RESULTS, SPOOLS, epoch_number,
};
use crate::sink::postgres::target::rows::{BoundStatement, StatementParams};
use crate::sink::{DataError, LedgerRow, SinkError, landed_counts, result_counts};

/// Ranges of committed offsets that are kept per spool: many times what a broker can still bring again. Ids below them
/// are known by the landing tables ([`KnownOffsets`](crate::model::KnownOffsets)).
const EXACT_RANGES: usize = 10_000;

/// Rows of the ledger that are compared with what others remember.
const COMPARED_EPOCHS: usize = 10_000;

/// The ledger of one pipeline in one schema.
pub(crate) struct Ledger {
    pub(crate) pipeline: String,
    pub(crate) run_id: String,
    ledger: String,
    spools: String,
    committed: String,
    results: String,
    gaps: String,
    /// What the next epoch is to follow; `None` before the first one of the pipeline.
    newest: Option<NewestEpoch>,
}

/// The newest epoch in the ledger, and the run that committed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewestEpoch {
    epoch: Epoch,
    run_id: String,
}

impl Ledger {
    pub(crate) fn new(schema: &str, pipeline: String, run_id: String) -> Self {
        let [ledger, spools, committed, results, gaps] =
            [LEDGER, SPOOLS, COMMITTED, RESULTS, GAPS].map(|table| quote::table(schema, table));
        Self { pipeline, run_id, ledger, spools, committed, results, gaps, newest: None }
    }

    /// Who writes letters of an epoch that was closed then.
    pub(crate) fn written_by(&self, closed_at: SystemTime) -> WrittenBy<'_> {
        WrittenBy { pipeline: &self.pipeline, run_id: &self.run_id, closed_at }
    }

    /// The ledger row of an epoch. It is inserted only onto the epoch that this run has committed or read last: a ledger
    /// with a newer one has another processor, and one that lacks it has forgotten what was acknowledged.
    pub(crate) fn insert(&self, commit: &EpochCommit) -> Result<BoundStatement, SinkError> {
        let sql = format!(
            "INSERT INTO {ledger} (pipeline, epoch, queue, run_id, spools, offsets, landed, \
             results, dead_letters, watermark, opened_at, closed_at) \
             SELECT $1::text, $2::bigint, $3::text, $4::text, $5::text[], \
             ARRAY(SELECT range_agg(int8range(first, last, '[]')) \
             FROM unnest($6::integer[], $7::bigint[], $8::bigint[]) AS taken(spool, first, last) \
             GROUP BY spool ORDER BY spool), \
             $9::jsonb, $10::jsonb, $11::bigint, $12::timestamp, $13::timestamptz, $14::timestamptz \
             WHERE NOT EXISTS (SELECT FROM {ledger} \
             WHERE pipeline = $1 AND epoch >= least($2, coalesce($15::bigint, -1) + 1)) \
             AND ($15 IS NULL OR EXISTS (SELECT FROM {ledger} \
             WHERE pipeline = $1 AND epoch = $15 AND run_id = $16::text))",
            ledger = self.ledger
        );
        let Ranges { spools, spool_of, firsts, lasts } = Ranges::of(&commit.offsets)?;
        let (before, before_run) = match &self.newest {
            None => (None, None),
            Some(newest) => (Some(epoch_number(newest.epoch)?), Some(newest.run_id.clone())),
        };
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
                Box::new(spool_of),
                Box::new(firsts),
                Box::new(lasts),
                Box::new(json(serde_json::to_value(landed_counts(commit)))?),
                Box::new(json(serde_json::to_value(result_counts(commit)))?),
                Box::new(commit.letters() as i64),
                Box::new(commit.watermark.map(Micros)),
                Box::new(commit.opened_at),
                Box::new(commit.closed_at),
                Box::new(before),
                Box::new(before_run),
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

    /// Adds the generations that the ledger does not know.
    pub(crate) fn insert_generations(&self, commit: &EpochCommit) -> BoundStatement {
        let sql = format!(
            "INSERT INTO {spools} (pipeline, queue, generation, spool, first_id) \
             SELECT $1::text, $2::text, begun.* \
             FROM unnest($3::integer[], $4::text[], $5::bigint[]) AS begun \
             ON CONFLICT (pipeline, queue, generation) DO NOTHING",
            spools = self.spools
        );
        let all = commit.generations.all();
        let numbers: Vec<i32> = all.iter().map(|it| it.number as i32).collect();
        let spools: Vec<String> = all.iter().map(|it| spool_text(it.spool)).collect();
        let firsts: Vec<i64> = all.iter().map(|it| it.first as i64).collect();
        BoundStatement {
            table: SPOOLS.to_owned(),
            sql,
            params: vec![
                Box::new(self.pipeline.clone()),
                Box::new(commit.queue.clone()),
                Box::new(numbers),
                Box::new(spools),
                Box::new(firsts),
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

    /// Forgets that, because these results are written whole or not any more.
    pub(crate) fn close_gaps(&self, names: &[String]) -> BoundStatement {
        let sql = format!(
            "DELETE FROM {} WHERE pipeline = $1::text AND result = ANY ($2::text[])",
            self.gaps
        );
        let params: StatementParams =
            vec![Box::new(self.pipeline.clone()), Box::new(names.to_vec())];
        BoundStatement { table: GAPS.to_owned(), sql, params }
    }

    /// Results that lack refused rows.
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

    /// The epoch is this run's newest one.
    pub(crate) fn has_committed(&mut self, epoch: Epoch) {
        self.newest = Some(NewestEpoch { epoch, run_id: self.run_id.clone() });
    }

    /// Why the ledger did not take an epoch: it has a newer one than this run knows, or it has lost that.
    pub(crate) async fn refusal(
        &self,
        connection: &Connection,
        epoch: Epoch,
    ) -> Result<SinkError, SinkError> {
        let found = self.read_newest(&connection.client).await?.map(|(newest, _)| newest);
        let (pipeline, known) = (self.pipeline.clone(), self.newest.as_ref());
        let is_behind = known.is_some_and(|known| {
            let same = |found: &NewestEpoch| found.epoch == known.epoch && found != known;
            found.as_ref().is_none_or(|found| found.epoch < known.epoch || same(found))
        });
        Ok(match known.filter(|_| is_behind) {
            Some(known) => SinkError::Forgotten {
                pipeline,
                newest: found.map(|found| found.epoch),
                expected: known.epoch,
            },
            None => SinkError::Fenced { pipeline, epoch },
        })
    }

    /// The newest epoch and its watermark.
    async fn read_newest(
        &self,
        client: &Client,
    ) -> Result<Option<(NewestEpoch, Option<i64>)>, SinkError> {
        let failed = |error| classify("reading the ledger", error);
        let sql = format!(
            "SELECT epoch, run_id, watermark FROM {} WHERE pipeline = $1 ORDER BY epoch DESC LIMIT 1",
            self.ledger
        );
        let row = client.query_typed_opt(&sql, &[(&self.pipeline, Type::TEXT)]).await;
        let Some(row) = row.map_err(failed)? else { return Ok(None) };
        let epoch = Epoch(row.try_get::<_, i64>(0).map_err(failed)? as u64);
        let run_id = row.try_get(1).map_err(failed)?;
        let watermark: Option<Micros> = row.try_get(2).map_err(failed)?;
        Ok(Some((NewestEpoch { epoch, run_id }, watermark.map(|micros| micros.0))))
    }

    /// Where to go on with a queue; the next epoch is to follow the newest one that is read here.
    pub(crate) async fn resume(
        &mut self,
        client: &Client,
        queue: &str,
    ) -> Result<LedgerPosition, SinkError> {
        let failed = |error| classify("reading the ledger", error);
        let mut position = LedgerPosition::default();
        let newest = self.read_newest(client).await?;
        self.newest = newest.as_ref().map(|(newest, _)| newest.clone());
        position.epoch = newest.as_ref().map(|(newest, _)| newest.epoch);
        position.run_id = newest.as_ref().map(|(newest, _)| newest.run_id.clone());
        position.watermark = newest.and_then(|(_, watermark)| watermark);
        // Ranges one by one: a multirange as text takes the server kilobytes for each of them.
        let offsets = format!(
            "SELECT s.spool, lower(r), upper(r) \
             FROM {}, unnest(spools, offsets) AS s(spool, offsets), unnest(s.offsets) AS r \
             WHERE pipeline = $1 AND queue = $2 \
             UNION ALL SELECT spool, lower(r), upper(r) FROM {}, unnest(offsets) AS r \
             WHERE pipeline = $1 AND queue = $2",
            self.ledger, self.committed
        );
        for row in client.query(&offsets, &[&self.pipeline, &queue]).await.map_err(failed)? {
            let spool = parse_spool(row.try_get(0).map_err(failed)?)?;
            let (first, end) = (row.try_get(1).map_err(failed)?, row.try_get(2).map_err(failed)?);
            add_range(&mut position.offsets, spool, first..end)?;
        }
        let forgotten = format!(
            "SELECT spool, forgotten_to FROM {} \
             WHERE pipeline = $1 AND queue = $2 AND forgotten_to IS NOT NULL",
            self.committed
        );
        for row in client.query(&forgotten, &[&self.pipeline, &queue]).await.map_err(failed)? {
            let spool = parse_spool(row.try_get(0).map_err(failed)?)?;
            let last: i64 = row.try_get(1).map_err(failed)?;
            position.forgotten_to.insert(spool, last.unsigned_abs());
        }
        position.generations = self.generations(client, queue).await?;
        let definitions =
            format!("SELECT result, definition FROM {} WHERE pipeline = $1", self.results);
        for row in client.query(&definitions, &[&self.pipeline]).await.map_err(failed)? {
            let (result, definition) = (row.try_get(0), row.try_get(1));
            position.definitions.insert(result.map_err(failed)?, definition.map_err(failed)?);
        }
        Ok(position)
    }

    /// The generations of a queue; new ones come after those of all queues and pipelines of the schema, whose
    /// positions the same landing tables may hold: a queue or a pipeline was renamed.
    async fn generations(&self, client: &Client, queue: &str) -> Result<Generations, SinkError> {
        let failed = |error| classify("reading the ledger", error);
        let sql = format!(
            "SELECT generation, spool, first_id, pipeline = $1 AND queue = $2 FROM {} ORDER BY generation",
            self.spools
        );
        let (mut known, mut lowest) = (Vec::new(), 0);
        for row in client.query(&sql, &[&self.pipeline, &queue]).await.map_err(failed)? {
            let number = row.try_get::<_, i32>(0).map_err(failed)?.unsigned_abs();
            lowest = lowest.max(number + 1);
            if row.try_get(3).map_err(failed)? {
                let spool = parse_spool(row.try_get(1).map_err(failed)?)?;
                let first: i64 = row.try_get(2).map_err(failed)?;
                known.push(Generation { number, spool, first: first.unsigned_abs() });
            }
        }
        Ok(Generations::new(known, lowest))
    }

    /// Who committed the epochs whose rows are there, the newest of them.
    pub(crate) async fn runs(&self, client: &Client) -> Result<BTreeMap<Epoch, String>, SinkError> {
        let failed = |error| classify("reading the ledger", error);
        let sql = format!(
            "SELECT epoch, run_id FROM {} WHERE pipeline = $1 ORDER BY epoch DESC LIMIT {COMPARED_EPOCHS}",
            self.ledger
        );
        let rows = client.query_typed(&sql, &[(&self.pipeline, Type::TEXT)]).await;
        let run = |row: &Row| -> Result<(Epoch, String), Error> {
            Ok((Epoch(row.try_get::<_, i64>(0)?.unsigned_abs()), row.try_get(1)?))
        };
        rows.map_err(failed)?.iter().map(run).collect::<Result<_, _>>().map_err(failed)
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
            "SELECT epoch, queue, run_id, spools, spool_of, firsts, ends, landed, results, \
             dead_letters, watermark, opened_at, closed_at, committed_at FROM {}, LATERAL \
             (SELECT array_agg(at), array_agg(lower(r)), array_agg(upper(r)) \
             FROM unnest(offsets) WITH ORDINALITY AS of_spool(ids, at), unnest(ids) AS r) \
             AS taken(spool_of, firsts, ends) \
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

    /// The newest epoch behind the newest `epochs`, or behind `bytes` of offsets.
    pub(crate) async fn beyond(
        &self,
        client: &Client,
        epochs: u64,
        bytes: u64,
    ) -> Result<Option<Epoch>, SinkError> {
        let failed = |error| classify("measuring the ledger", error);
        let sql = format!(
            "SELECT max(epoch) FROM (SELECT epoch, row_number() OVER newer AS number, \
             sum(pg_column_size(offsets)) OVER newer AS bytes FROM {} WHERE pipeline = $1 \
             WINDOW newer AS (ORDER BY epoch DESC)) AS waiting WHERE number > $2 OR bytes > $3::bigint",
            self.ledger
        );
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (epochs, bytes) = (number(epochs), number(bytes));
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&self.pipeline, Type::TEXT), (&epochs, Type::INT8), (&bytes, Type::INT8)];
        let row = client.query_typed_one(&sql, &params).await.map_err(failed)?;
        let found: Option<i64> = row.try_get(0).map_err(failed)?;
        Ok(found.map(|epoch| Epoch(epoch.unsigned_abs())))
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
               ON CONFLICT (pipeline, queue, spool) DO UPDATE SET (offsets, forgotten_to) = ( \
                 SELECT range_agg(r) FILTER (WHERE age <= {EXACT_RANGES}), greatest(c.forgotten_to, \
                 max(upper(r)) FILTER (WHERE age > {EXACT_RANGES}) - 1) FROM ( \
                   SELECT r, row_number() OVER (ORDER BY lower(r) DESC) AS age \
                   FROM unnest(c.offsets + EXCLUDED.offsets) AS r) AS ranked) \
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
    error.cause::<Error>().is_some_and(is_unique_violation)
}
