//! Offsets of a shared broker: messages that are older than what is remembered, and spools that change.

use super::*;
use crate::model::Landing;

/// Rows of the orders table, one message each, with these offsets.
fn orders_at(offsets: &[Offset]) -> Vec<Message> {
    let changes: Vec<Change> = (1..=offsets.len() as u8)
        .map(|id| Change::Upsert { table: 0, id, parent: 1, value: 1 })
        .collect();
    let mut stream = messages(&payloads(&changes));
    for (message, offset) in stream.iter_mut().zip(offsets) {
        message.offset = *offset;
    }
    stream
}

fn landed(target: &MemoryTarget) -> Vec<Offset> {
    target.landed("cdc_orders").iter().flat_map(|changes| changes.offsets.clone()).collect()
}

pub(super) async fn process(processor: &mut Processor, sink: &mut MemorySink, batch: &[Message]) {
    let job = processor.process(batch.to_vec().into(), &HashMap::new()).await.unwrap();
    let epoch = job.commit.as_ref().map(|commit| commit.epoch);
    commit(sink, job).await;
    epoch.map_or(Ok(()), |epoch| processor.committed(epoch)).unwrap();
}

#[tokio::test]
async fn an_old_message_is_processed_unless_the_target_has_it() {
    let (sql, target) = (sql().await, MemoryTarget::default());
    let (mut processor, mut sink) = processor(&sql, &target).await;
    let [first, behind, last] = [10, 20, 30].map(|id| Offset::new(7, id));
    let stream = orders_at(&[first, behind, last]);
    process(&mut processor, &mut sink, &[stream[0].clone(), stream[2].clone()]).await;
    processor.forget_offsets_to(last);
    // All come again, and one of them for the first time: its partition was behind.
    process(&mut processor, &mut sink, &stream).await;
    process(&mut processor, &mut sink, &stream).await;
    assert_eq!(landed(&target), [first, last, behind]);
}

/// Nothing tells that it is known, but its row is older than the one in memory.
#[tokio::test]
async fn an_old_message_of_a_table_that_lands_nowhere_changes_no_current_row() {
    let (mut sql, target) = (sql().await, MemoryTarget::default());
    for table in sql.tables.iter_mut().filter(|table| table.name == "orders") {
        Arc::make_mut(table).options.landing = Landing::None;
    }
    let (mut processor, mut sink) = processor(&sql, &target).await;
    let put = |value| Change::Upsert { table: 0, id: 1, parent: 1, value };
    let stream = messages(&payloads(&[put(1), put(2), Change::Delete { table: 0, id: 1 }, put(3)]));
    process(&mut processor, &mut sink, &stream).await;
    let shown = || as_text(&target.result("cdc_orders_enriched"));
    let before = shown();
    assert_eq!(before.len(), 1);
    processor.forget_offsets_to(Offset::new(7, 100));
    process(&mut processor, &mut sink, &stream[..3]).await;
    assert_eq!(shown(), before);
    assert!(landed(&target).is_empty());
}

#[tokio::test]
async fn after_a_failback_changes_are_newer_than_those_of_the_other_site() {
    let (sql, target) = (sql().await, MemoryTarget::default());
    let (mut processor, mut sink) = processor(&sql, &target).await;
    let offsets = [(7, 10), (8, 1), (7, 20)].map(|(spool, id)| Offset::new(spool, id));
    for message in orders_at(&offsets) {
        process(&mut processor, &mut sink, &[message]).await;
    }
    // The next processor goes on in the same order.
    let (mut processor, mut sink) = self::processor(&sql, &target).await;
    let next = orders_at(&[Offset::new(7, 21), Offset::new(8, 2)]);
    process(&mut processor, &mut sink, &next).await;
    let landed = target.landed("cdc_orders");
    let positions: Vec<i64> =
        landed.iter().flat_map(|changes| changes.positions.iter().map(|at| at.0)).collect();
    assert_eq!(positions.len(), 5);
    assert!(positions.is_sorted(), "{positions:?}");
}
