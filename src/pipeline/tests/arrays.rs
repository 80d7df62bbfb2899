//! JSON arrays of events: packed into messages, a stream leaves what it leaves as messages of one event, through
//! redeliveries, restarts, aborted epochs and replays.

use super::offsets::process;
use super::*;
use crate::decode::event_count;
use crate::model::{ReplayRequest, Replayed, SystemColumn};
use crate::pipeline::epoch::diversion::Diversion;

/// The same events in messages of so many each.
pub(super) fn packed(payloads: &[String], sizes: &[usize]) -> Vec<Message> {
    let (mut rest, mut packed) = (payloads, Vec::new());
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (events, later) = rest.split_at(rest.len().min(*size));
        rest = later;
        packed.push(match events {
            [event] => event.clone(),
            // Nothing is null in an array.
            events => {
                let events =
                    events.iter().map(|event| if event.is_empty() { "null" } else { event });
                format!("[{}]", events.collect::<Vec<_>>().join(","))
            }
        });
    }
    messages(&packed)
}

async fn shows_the_stream(
    sql: &Sql,
    target: &MemoryTarget,
    payloads: &[String],
    watermark: Option<i64>,
) {
    let expected = from_scratch_at(sql, &messages(payloads), watermark).await;
    for file in &sql.transforms {
        let shown = as_text(&target.result(&format!("cdc_{}", file.name)));
        let scratch = expected.get(&file.name).cloned().unwrap_or_default();
        assert_eq!(shown, scratch, "{}", file.name);
    }
}

/// No two rows of a landing table have one event id.
fn ids_are_unique(target: &MemoryTarget) {
    for name in NAMES {
        let landed = target.landed(&format!("cdc_{}", name.to_lowercase()));
        let ids = landed.iter().flat_map(|changelog| {
            let at = changelog.table.system_column(SystemColumn::EventId);
            let ids = changelog.batch.column(at);
            (0..changelog.len()).map(|row| array_value_to_string(ids, row).unwrap())
        });
        let (mut seen, mut count) = (BTreeSet::new(), 0);
        for id in ids {
            count += 1;
            seen.insert(id);
        }
        assert_eq!(seen.len(), count, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn how_events_are_packed_makes_no_difference(
        changes in prop::collection::vec(change(), 1..60),
        sizes in prop::collection::vec(1usize..8, 1..6),
        borders in prop::collection::vec(border(), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (sql, payloads) = (sql().await, payloads(&changes));
            let target = run_in_batches(&sql, &packed(&payloads, &sizes), &borders).await;
            shows_the_stream(&sql, &target, &payloads, None).await;
            ids_are_unique(&target);
        });
    }

    #[test]
    fn arrays_that_come_back_leave_what_the_stream_would_have_left(
        changes in prop::collection::vec(change(), 1..60),
        sizes in prop::collection::vec(1usize..8, 1..6),
        dies in prop::collection::vec(prop::bool::weighted(0.4), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            // An update without its LOB has taken the value that was known then.
            let changes: Vec<Change> =
                changes.into_iter().filter(|it| !matches!(it, Change::Unavailable { .. })).collect();
            let (sql, payloads) = (sql().await, payloads(&changes));
            let stream = packed(&payloads, &sizes);
            if stream.is_empty() {
                return;
            }
            let target = MemoryTarget::default();
            let (mut processor, mut sink) = processor(&sql, &target).await;
            let dies = stream.iter().zip(dies.iter().cycle()).filter(|(_, dies)| **dies);
            let failing: HashMap<Offset, Diversion> =
                dies.map(|(message, _)| (message.offset, Diversion::failed("a test"))).collect();
            for batch in stream.chunks(5) {
                let job = processor.process(batch.to_vec().into(), &failing).await.unwrap();
                commit(&mut sink, job).await;
            }
            let dead = stream.iter().filter(|message| failing.contains_key(&message.offset));
            let requests: Vec<ReplayRequest> = dead
                .map(|message| ReplayRequest { id: message.offset.id as i64, message: message.clone() })
                .collect();
            for letters in requests.rchunks(3) {
                let job = processor.replay(letters.to_vec(), &HashMap::new()).await.unwrap();
                commit(&mut sink, job).await;
            }
            let watermark = target.ledger("sales").last().unwrap().watermark;
            shows_the_stream(&sql, &target, &payloads, watermark).await;
            ids_are_unique(&target);
        });
    }
}

/// An array of which one event is bad, and a later change of the row of another one.
#[tokio::test]
async fn a_replay_of_an_array_does_nothing_again_of_what_its_first_time_has_done() {
    let (sql, target) = (sql().await, MemoryTarget::default());
    let (mut processor, mut sink) = processor(&sql, &target).await;
    let order = |id| event(0, "c", "null", &row(0, id, 1, 1));
    let array = format!(
        "[{},{},{}]",
        order(1),
        order(2).replace("\"ORDER_ID\":2", "\"ORDER_ID\":\"x\""),
        order(3)
    );
    let later = event(0, "d", &row(0, 1, 1, 1), "null");
    let stream = messages(&[array, later]);
    let job = processor.process(stream.clone().into(), &HashMap::new()).await.unwrap();
    commit(&mut sink, job).await;
    assert_eq!(target.dead_letters().len(), 1);
    let shown = as_text(&target.result("cdc_orders_enriched"));
    assert_eq!(shown.len(), 1);
    let (mut processor, mut sink) = self::processor(&sql, &target).await;
    let request = ReplayRequest { id: 1, message: stream[0].clone() };
    let job = processor.replay(vec![request], &HashMap::new()).await.unwrap();
    commit(&mut sink, job).await;
    let outcomes: Vec<&str> =
        target.replayed().iter().map(|Replayed { outcome, .. }| outcome.as_str()).collect();
    assert_eq!(outcomes, ["failed"]);
    assert_eq!(as_text(&target.result("cdc_orders_enriched")), shown);
    ids_are_unique(&target);
}

#[tokio::test]
async fn an_old_array_is_known_by_each_of_its_events() {
    let (sql, target) = (sql().await, MemoryTarget::default());
    let (mut processor, mut sink) = processor(&sql, &target).await;
    let order = |id| event(0, "c", "null", &row(0, id, 1, 1));
    let stream = packed(&[String::new(), order(1), order(2)], &[3]);
    assert_eq!(event_count(&stream[0]), 3);
    for _ in 0..2 {
        process(&mut processor, &mut sink, &stream).await;
        processor.forget_offsets_to(Offset::new(7, 100));
    }
    assert_eq!(target.landed("cdc_orders").iter().map(|it| it.len()).sum::<usize>(), 2);
}
