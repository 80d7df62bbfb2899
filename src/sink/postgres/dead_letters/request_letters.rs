//! Letters of requests that an API refused: what the delivery and a replay write about them.
//!
//! A letter is found by the idempotency key of its request, and older ones by their lane and their place, which a
//! request keeps that comes back.

use crate::model::ErrorType;
use crate::model::LetterStatus::{self, Dead, Queued, Replayed, Requested, Superseded};

/// The letters at hand, as `k`: parameter 1 is the pipeline, and 2 their ids.
pub(crate) const IS_ASKED: &str = "k.pipeline = $1::text AND k.id = ANY ($2::bigint[])";

/// Letters `k` of requests that nothing final has become of; as in the index of the system tables.
pub(crate) fn is_open() -> String {
    let open = LetterStatus::OPEN.map(|status| format!("'{status}'")).join(", ");
    format!("k.phase = '{}' AND k.status IN ({open})", ErrorType::RestRefused.phase().as_str())
}

/// Parts of a statement that settles rows of the outbox: refused ones become letters, or stay what they are; the
/// letter of a delivered one is replayed, and older ones of its key are superseded.
///
/// Parameters: 1 the rows that the API has answered, 2 those of them that it has refused, 3 its reasons, 4 the time,
/// 5 the results whose newer requests supersede older ones, 6 whether there are letters.
pub(crate) fn settling(dead: &str, outbox: &str) -> String {
    let (error_type, is_open) = (ErrorType::RestRefused, is_open());
    format!(
        "refused AS ( \
           SELECT o.*, r.reason, 'rest:' || o.idempotency_key AS event_id \
           FROM unnest($2::bigint[], $3::text[]) AS r(id, reason) JOIN {outbox} o ON o.id = r.id \
         ), again AS ( \
           UPDATE {dead} k SET status = '{Dead}', settled_at = NULL, error_message = o.reason, last_failure = $4 \
           FROM refused o WHERE $6 AND k.pipeline = o.pipeline AND k.event_id = o.event_id RETURNING k.event_id \
         ), dead AS ( \
           INSERT INTO {dead} (original_topic, error_type, error_message, phase, original_payload, \
           properties, event_id, first_failure, last_failure, consumer_id, pipeline) \
           SELECT o.path, '{error_type}', o.reason, '{phase}', convert_to(o.body, 'UTF8'), \
           jsonb_build_object('result', o.result, 'operation', o.operation, 'idempotency_key', \
           o.idempotency_key, 'lane', o.lane, 'place', o.id), o.event_id, $4, $4, o.pipeline, o.pipeline \
           FROM refused o WHERE o.event_id NOT IN (SELECT event_id FROM again) ON CONFLICT DO NOTHING \
         ), delivered AS ( \
           SELECT o.pipeline, o.result, o.lane, 'rest:' || o.idempotency_key AS event_id, o.id FROM {outbox} o \
           WHERE $6 AND o.id = ANY ($1::bigint[]) AND o.id <> ALL ($2) \
         ), replayed AS ( \
           UPDATE {dead} k SET status = '{Replayed}', settled_at = $4 FROM delivered o \
           WHERE k.pipeline = o.pipeline AND k.event_id = o.event_id AND {is_open} \
         ), superseded AS ( \
           UPDATE {dead} k SET status = '{Superseded}', settled_at = $4 FROM delivered o \
           LEFT JOIN {dead} own ON own.pipeline = o.pipeline AND own.event_id = o.event_id \
           WHERE o.result = ANY ($5) AND k.pipeline = o.pipeline AND k.properties->>'lane' = o.lane \
           AND {is_open} AND k.status <> '{Queued}' \
           AND (k.properties->>'place')::bigint < COALESCE((own.properties->>'place')::bigint, o.id) \
         )",
        error_type = error_type.as_str(),
        phase = error_type.phase().as_str(),
    )
}

/// Puts the letters that are asked for into the outbox.
pub(crate) fn queue(dead: &str) -> String {
    format!(
        "UPDATE {dead} AS k SET status = '{Queued}', retry_count = retry_count + 1 \
         WHERE {IS_ASKED} AND k.status = '{Requested}'"
    )
}

/// Those of the letters that [`queue`] has taken.
pub(crate) fn is_queued() -> String {
    format!("{IS_ASKED} AND k.status = '{Queued}'")
}

/// Takes back those of which a newer request of their key waits; parameter 3 is the time.
pub(crate) fn supersede(dead: &str, outbox: &str) -> String {
    format!(
        "UPDATE {dead} AS k SET status = '{Superseded}', settled_at = $3::timestamptz \
         FROM (SELECT o.lane, max(COALESCE((r.properties->>'place')::bigint, o.id)) AS place FROM {outbox} o \
           LEFT JOIN {dead} r ON r.pipeline = o.pipeline AND r.event_id = 'rest:' || o.idempotency_key \
           WHERE o.pipeline = $1 AND o.delivered_at IS NULL GROUP BY o.lane) AS newest \
         WHERE {is_queued} AND newest.lane = k.properties->>'lane' \
         AND newest.place > (k.properties->>'place')::bigint",
        is_queued = is_queued(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_over_open_requests_is_for_those_that_are_open() {
        let (_, of_index) = crate::sink::postgres::schema::system_tables::OPEN_REQUESTS
            .split_once("WHERE ")
            .expect("a partial index");
        assert_eq!(is_open().replace("k.", ""), of_index);
    }
}
