//! Refused requests that go back to the outbox.
//!
//! A request of a result that tells what its rows are is sent again only if no newer one of its key waits: the newer
//! one says more. (If a newer one was delivered, its letter is settled since then.) The `place` of a letter is the one
//! that its request had in the outbox first; it keeps it, so that the order of versions is known.

use crate::model::{EpochCommit, Resent};
use crate::sink::SinkError;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::dead_letters::request_letters::{is_queued, queue, supersede};
use crate::sink::postgres::schema::system_tables::{DEAD_LETTERS, OUTBOX, epoch_number};
use crate::sink::postgres::target::rows::{BoundStatement, StatementParams};

/// The statements that put the requests of an epoch back, with their keys and their bytes, and tell their letters.
pub(crate) fn statements(
    commit: &EpochCommit,
    schema: &str,
    pipeline: &str,
) -> Result<Vec<BoundStatement>, SinkError> {
    if commit.resent.is_empty() {
        return Ok(Vec::new());
    }
    let (dead, outbox) = (quote::table(schema, DEAD_LETTERS), quote::table(schema, OUTBOX));
    let ids = |is_wanted: fn(&Resent) -> bool| -> Vec<i64> {
        commit.resent.iter().filter(|resent| is_wanted(resent)).map(|resent| resent.id).collect()
    };
    let bound = |sql: String, ids: Vec<i64>, more: StatementParams| {
        let mut params: StatementParams = vec![Box::new(pipeline.to_owned()), Box::new(ids)];
        params.extend(more);
        BoundStatement { table: OUTBOX.to_owned(), sql, params }
    };
    let (all, queued) = (ids(|_| true), is_queued());
    let (queue, supersede) = (queue(&dead), supersede(&dead, &outbox));
    // The key of a request that is sent once stays when it is answered.
    let make_room = format!(
        "DELETE FROM {outbox} AS o USING {dead} AS k WHERE {queued} AND o.pipeline = k.pipeline \
         AND o.idempotency_key = k.properties->>'idempotency_key' AND o.delivered_at IS NOT NULL"
    );
    let insert = format!(
        "INSERT INTO {outbox} (pipeline, epoch, result, path, is_once, lane, operation, idempotency_key, body) \
         SELECT k.pipeline, $3::bigint, k.properties->>'result', k.original_topic, k.id = ANY ($4::bigint[]), \
         k.properties->>'lane', k.properties->>'operation', k.properties->>'idempotency_key', \
         convert_from(k.original_payload, 'UTF8') FROM {dead} k WHERE {queued} \
         ORDER BY (k.properties->>'place')::bigint ON CONFLICT (pipeline, idempotency_key) DO NOTHING"
    );
    let epoch = epoch_number(commit.epoch)?;
    Ok(vec![
        bound(queue, all.clone(), StatementParams::new()),
        bound(supersede, ids(|resent| resent.is_version), vec![Box::new(commit.closed_at)]),
        bound(make_room, all.clone(), StatementParams::new()),
        bound(insert, all, vec![Box::new(epoch), Box::new(ids(|resent| resent.is_once))]),
    ])
}
