//! Epochs that a database has lost and an operator has given up: the journal of it, and the traces of a lost ledger.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::model::{AcceptedLoss, Epoch, LostEpochs, Offset, Position, Table};
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::landing_columns::{CHANGE_SEQ, EVENT_ID, target_name};
use crate::sink::postgres::schema::system_tables::{LOST_EPOCHS, SPOOLS, epoch_number};
use crate::sink::postgres::target::rows::BoundStatement;
use crate::sink::{AcceptedRange, LedgerTraces, SinkError};

const DOING: &str = "reading which epochs are lost";
/// Ranges of offsets that the journal has of a queue.
const RANGES: usize = 1_000;

/// Notes an accepted loss, under the epoch that does it.
pub(crate) fn accept(
    schema: &str,
    pipeline: &str,
    epoch: Epoch,
    loss: &AcceptedLoss,
) -> Result<Vec<BoundStatement>, SinkError> {
    let AcceptedLoss { lost, generation } = loss;
    let (first, last) = lost.numbers.unzip();
    let (since, until) = lost.times.unzip();
    let noted = BoundStatement {
        table: LOST_EPOCHS.to_owned(),
        sql: format!(
            "INSERT INTO {} (pipeline, accepted_epoch, first_epoch, last_epoch, epochs, messages, \
             offsets, landed, opened_at, committed_at) \
             VALUES ($1::text, $2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::jsonb, $8::jsonb, \
             $9::timestamptz, $10::timestamptz)",
            quote::table(schema, LOST_EPOCHS)
        ),
        params: vec![
            Box::new(pipeline.to_owned()),
            Box::new(epoch_number(epoch)?),
            Box::new(first.map(epoch_number).transpose()?),
            Box::new(last.map(epoch_number).transpose()?),
            Box::new(count(lost.epochs)),
            Box::new(count(lost.messages)),
            Box::new(offsets(lost)),
            Box::new(serde_json::json!(lost.landed)),
            Box::new(since.map(time)),
            Box::new(until.map(time)),
        ],
    };
    let reserved = generation.map(|generation| reserve(schema, pipeline, generation));
    Ok([noted].into_iter().chain(reserved).collect())
}

/// Keeps the generations of the queue above those that only the landing tables know.
fn reserve(schema: &str, pipeline: &str, generation: u32) -> BoundStatement {
    let number = i32::try_from(generation).unwrap_or(i32::MAX);
    BoundStatement {
        table: SPOOLS.to_owned(),
        sql: format!(
            "INSERT INTO {} (pipeline, queue, generation, spool) \
             VALUES ($1::text, '', $2::integer, '0000000000000000') ON CONFLICT DO NOTHING",
            quote::table(schema, SPOOLS)
        ),
        params: vec![Box::new(pipeline.to_owned()), Box::new(number)],
    }
}

/// By queue, as a list of the first and the last offset of each range.
fn offsets(lost: &LostEpochs) -> serde_json::Value {
    let of_queue = lost.offsets.iter().map(|(queue, offsets)| {
        let mut offsets = offsets.clone();
        offsets.coarsen(RANGES);
        let range = |(first, last): (Offset, u64)| {
            let last = Offset::new(first.spool, last);
            serde_json::json!([first.to_string(), last.to_string()])
        };
        (queue.clone(), offsets.ranges().map(range).collect::<serde_json::Value>())
    });
    serde_json::Value::Object(of_queue.collect())
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs())
}

/// What was accepted so far.
pub(crate) async fn accepted(
    client: &Client,
    schema: &str,
    pipeline: &str,
) -> Result<Vec<AcceptedRange>, SinkError> {
    let failed = |error| classify(DOING, error);
    let sql = format!(
        "SELECT first_epoch, last_epoch, epochs FROM {} \
         WHERE pipeline = $1 AND first_epoch IS NOT NULL AND last_epoch IS NOT NULL",
        quote::table(schema, LOST_EPOCHS)
    );
    let rows = client.query_typed(&sql, &[(&pipeline, Type::TEXT)]).await.map_err(failed)?;
    let number = |row: &tokio_postgres::Row, at: usize| -> Result<u64, Error> {
        Ok(row.try_get::<_, i64>(at)?.unsigned_abs())
    };
    let range = |row| -> Result<AcceptedRange, Error> {
        let (first, last) = (Epoch(number(row, 0)?), Epoch(number(row, 1)?));
        Ok(AcceptedRange { first, last, epochs: number(row, 2)? })
    };
    rows.iter().map(range).collect::<Result<_, _>>().map_err(failed)
}

/// What is left of the ledger of a pipeline that has no epoch in it. Rows of other pipelines and queues in the same landing
/// tables are of generations that the ledger knows.
pub(crate) async fn traces(
    client: &Client,
    schema: &str,
    pipeline: &str,
    landing: &[Arc<Table>],
) -> Result<Option<LedgerTraces>, SinkError> {
    let failed = |error| classify(DOING, error);
    let sql = format!(
        "SELECT count(*) FILTER (WHERE pipeline = $1), coalesce(max(generation) + 1, 0) FROM {}",
        quote::table(schema, SPOOLS)
    );
    let row = client.query_typed_one(&sql, &[(&pipeline, Type::TEXT)]).await.map_err(failed)?;
    let own: i64 = row.try_get(0).map_err(failed)?;
    if own > 0 {
        let found = format!("{SPOOLS} names spools of its queues");
        return Ok(Some(LedgerTraces { found, generation: None }));
    }
    let generation: i32 = row.try_get(1).map_err(failed)?;
    let unknown = Position::first_of(generation.unsigned_abs());
    let mut traces: Option<LedgerTraces> = None;
    for table in landing {
        let Some(name) = target_name(table) else { continue };
        let column = |name: &str| quote::ident(&table.free_name(name));
        let (seq, event_id, place) =
            (column(CHANGE_SEQ), column(EVENT_ID), quote::table(schema, name));
        let newest = format!(
            "SELECT {event_id}::text, {seq}::bigint FROM {place} WHERE {seq} >= $1 ORDER BY {seq} DESC LIMIT 1"
        );
        let asked: [(&(dyn ToSql + Sync), Type); 1] = [(&unknown.0, Type::INT8)];
        let Some(row) = client.query_typed_opt(&newest, &asked).await.map_err(failed)? else {
            continue;
        };
        let event: Option<String> = row.try_get(0).map_err(failed)?;
        let highest = Position(row.try_get(1).map_err(failed)?).generation();
        let traces = traces.get_or_insert_with(|| LedgerTraces {
            found: format!("{name} holds rows, such as that of {}", event.unwrap_or_default()),
            generation: None,
        });
        traces.generation = traces.generation.max(Some(highest));
    }
    Ok(traces)
}
