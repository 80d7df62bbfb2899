//! Dead letters that come back, at any time and whatever came meanwhile, leave what the stream would have left
//! if they had never died.

use super::*;
use crate::model::{ReplayOutcome, ReplayRequest, Replayed};
use crate::pipeline::epoch::diversion::Diversion;

fn dying(stream: &[Message], dies: &[bool]) -> HashMap<Offset, Diversion> {
    let dies = dies.iter().cycle();
    let dying = stream.iter().zip(dies).filter(|(_, dies)| **dies);
    dying.map(|(message, _)| (message.offset, Diversion::failed("a test"))).collect()
}

fn requests(letters: &[Message]) -> Vec<ReplayRequest> {
    let request = |message: &Message| ReplayRequest {
        id: message.offset.id as i64,
        message: message.clone(),
    };
    letters.iter().map(request).collect()
}

/// Batches in which some messages die, a replay of the dead ones in the middle and one at the end.
async fn run(
    sql: &Sql,
    stream: &[Message],
    dies: &[bool],
    (borders, size): (&[(usize, Border)], usize),
) -> MemoryTarget {
    let (target, folder) = (MemoryTarget::default(), StateFolder::temporary(1 << 20).unwrap());
    let (mut processor, mut sink) = processor_in(sql, &target, &folder).await;
    let failing = dying(stream, dies);
    let mut borders = borders.iter().cycle();
    let (mut at, mut replayed_to) = (0, 0);
    while at < stream.len() {
        let (count, border) = *borders.next().unwrap();
        let end = (at + count).min(stream.len());
        let job = processor.process(stream[at..end].to_vec().into(), &failing).await.unwrap();
        commit(&mut sink, job).await;
        if matches!(border, Border::Restart) {
            (processor, sink) = processor_in(sql, &target, &folder).await;
        }
        match border {
            Border::Evicted => processor.evict_all(),
            Border::Flushed => processor.flush_all(),
            _ => {}
        }
        let is_middle = replayed_to == 0 && end > stream.len() / 2;
        if is_middle || end == stream.len() {
            let part = &stream[replayed_to..end];
            let letters = part.iter().filter(|message| failing.contains_key(&message.offset));
            let letters: Vec<Message> = letters.cloned().collect();
            // The newest first, which is the worst order of batches.
            for letters in letters.rchunks(size) {
                let job = processor.replay(requests(letters), &HashMap::new()).await;
                commit(&mut sink, job.unwrap()).await;
            }
            replayed_to = end;
        }
        at = end;
    }
    target
}

/// Each letter has one outcome, and what is superseded has not landed.
fn outcomes_are_true(target: &MemoryTarget, letters: &HashMap<Offset, Diversion>) {
    let landed: Vec<u64> = NAMES
        .iter()
        .flat_map(|name| target.landed(&format!("cdc_{}", name.to_lowercase())))
        .flat_map(|changelog| changelog.offsets.iter().map(|offset| offset.id).collect::<Vec<_>>())
        .collect();
    let mut ids = BTreeSet::new();
    for Replayed { id, outcome } in target.replayed() {
        assert!(ids.insert(id as u64), "{id} has two outcomes");
        match outcome {
            ReplayOutcome::Applied => {}
            ReplayOutcome::Superseded => assert!(!landed.contains(&(id as u64)), "{id} has landed"),
            other => panic!("{id}: {other:?}"),
        }
    }
    let expected: BTreeSet<u64> = letters.keys().map(|offset| offset.id).collect();
    assert_eq!(ids, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_replay_leaves_what_the_stream_would_have_left(
        changes in prop::collection::vec(change(), 1..60),
        dies in prop::collection::vec(prop::bool::weighted(0.4), 1..40),
        borders in prop::collection::vec(border(), 1..12),
        size in 1usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let has_restart = borders.iter().any(|(_, border)| matches!(border, Border::Restart));
            // An update without its LOB has taken the value that was known then. A truncate is known
            // after a restart by the rows that it took.
            let is_kept = |change: &Change| match change {
                Change::Unavailable { .. } => false,
                Change::Truncate { .. } => !has_restart,
                _ => true,
            };
            let changes: Vec<Change> = changes.into_iter().filter(is_kept).collect();
            let stream = messages(&payloads(&changes));
            if stream.is_empty() {
                return;
            }
            let sql = sql().await;
            let target = run(&sql, &stream, &dies, (&borders, size)).await;
            // What is superseded has moved no watermark.
            let watermark = target.ledger("sales").last().unwrap().watermark;
            let expected = from_scratch_at(&sql, &stream, watermark).await;
            for file in &sql.transforms {
                let shown = as_text(&target.result(&format!("cdc_{}", file.name)));
                let scratch = expected.get(&file.name).cloned().unwrap_or_default();
                assert_eq!(shown, scratch, "{}", file.name);
            }
            outcomes_are_true(&target, &dying(&stream, &dies));
        });
    }
}

/// Messages of orders, of which some died, and what became of these when they came back after a restart.
async fn after_restart(
    payloads: &[String],
    dead: &[u64],
) -> (Vec<Replayed>, BTreeSet<Vec<String>>) {
    let (sql, target) = (sql().await, MemoryTarget::default());
    let (mut processor, mut sink) = processor(&sql, &target).await;
    let stream = messages(payloads);
    let dies: Vec<bool> = stream.iter().map(|m| dead.contains(&m.offset.id)).collect();
    let failing = dying(&stream, &dies);
    let job = processor.process(stream.clone().into(), &failing).await.unwrap();
    commit(&mut sink, job).await;
    let (mut processor, mut sink) = super::processor(&sql, &target).await;
    let letters: Vec<Message> =
        stream.into_iter().filter(|m| dead.contains(&m.offset.id)).collect();
    let job = processor.replay(requests(&letters), &HashMap::new()).await.unwrap();
    commit(&mut sink, job).await;
    (target.replayed(), as_text(&target.result("cdc_orders_enriched")))
}

#[tokio::test]
async fn what_was_deleted_or_truncated_since_stays_gone_also_after_a_restart() {
    let payloads = [
        event(0, "c", "null", &row(0, 1, 1, 1)),
        event(0, "c", "null", &row(0, 2, 1, 1)),
        event(0, "d", &row(0, 1, 1, 1), "null"),
        event(0, "c", "null", &row(0, 3, 1, 1)),
        event(0, "c", "null", &row(0, 4, 1, 1)),
        event(0, "t", "null", "null"),
        event(0, "c", "null", &row(0, 5, 1, 1)),
    ];
    let (replayed, rows) = Box::pin(after_restart(&payloads, &[1, 4])).await;
    let outcomes: Vec<&str> = replayed.iter().map(|replayed| replayed.outcome.as_str()).collect();
    assert_eq!(outcomes, ["superseded", "superseded"]);
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_letter_of_a_spool_that_the_queue_never_had_is_not_tried() {
    let (sql, target) = (sql().await, MemoryTarget::default());
    let (mut processor, mut sink) = processor(&sql, &target).await;
    let mut stream = messages(&[event(0, "c", "null", &row(0, 1, 1, 1))]);
    stream[0].offset = Offset::new(99, 1);
    let job = processor.replay(requests(&stream), &HashMap::new()).await.unwrap();
    commit(&mut sink, job).await;
    let outcome = &target.replayed()[0].outcome;
    assert!(matches!(outcome, ReplayOutcome::NotTried(why) if why.contains("never had")));
    assert!(target.landed("cdc_orders").is_empty());
}

#[tokio::test]
async fn a_letter_that_fails_again_is_no_new_letter() {
    let (sql, target) = (sql().await, MemoryTarget::default());
    let (mut processor, mut sink) = processor(&sql, &target).await;
    let stream = messages(&["{\"op\"".to_owned()]);
    let job = processor.process(stream.clone().into(), &HashMap::new()).await.unwrap();
    commit(&mut sink, job).await;
    let job = processor.replay(requests(&stream), &HashMap::new()).await.unwrap();
    commit(&mut sink, job).await;
    assert_eq!(target.dead_letters().len(), 1);
    assert!(matches!(&target.replayed()[0].outcome, ReplayOutcome::Failed(letter)
        if letter.error_type.as_str() == "MALFORMED_JSON"));
}
