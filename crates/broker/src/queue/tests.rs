//! Order, partitions and redelivery of one queue.

use super::*;

const A: FlowKey = FlowKey { connection: 1, flow: 1 };
const B: FlowKey = FlowKey { connection: 2, flow: 2 };

fn queue(access: Access, partitions: u32) -> Queue {
    let settings = QueueSettings {
        name: "q".to_owned(),
        access,
        partitions,
        quota_mb: None,
        max_redelivery: Some(1),
        dead_message_queue: None,
    };
    Queue::new(settings, None)
}

fn take_ids(queue: &mut Queue, flow: FlowKey) -> Vec<u64> {
    std::iter::from_fn(|| queue.take(flow)).map(|entry| entry.id).collect()
}

#[test]
fn returned_messages_go_first_oldest_first() {
    let mut queue = queue(Access::NonExclusive, 0);
    queue.bind(A);
    (1..=4).for_each(|id| queue.push(id, 0, false));
    let first: Vec<Entry> = (0..3).filter_map(|_| queue.take(A)).collect();
    for entry in [first[2], first[0]] {
        queue.give_back(entry);
    }
    assert_eq!(take_ids(&mut queue, A), [1, 3, 4]);
}

#[test]
fn redelivery_is_flagged_and_counted() {
    let mut queue = queue(Access::NonExclusive, 0);
    queue.bind(A);
    queue.push(1, 0, false);
    queue.push(2, 0, true);
    let first = queue.take(A).unwrap();
    assert_eq!(first.redelivered(), None);
    assert!(!queue.is_worn_out(&first));
    queue.give_back(first);
    let again = queue.take(A).unwrap();
    assert_eq!(again.redelivered(), Some(1));
    assert!(queue.is_worn_out(&again));
    // An earlier run of the broker may have delivered what it left.
    assert_eq!(queue.take(A).unwrap().redelivered(), Some(1));
}

#[test]
fn only_the_first_flow_of_an_exclusive_queue_receives() {
    let mut queue = queue(Access::Exclusive, 0);
    queue.bind(A);
    queue.bind(B);
    queue.push(1, 0, false);
    assert_eq!(queue.take(B), None);
    let entry = queue.take(A).unwrap();
    queue.give_back(entry);
    queue.unbind(A);
    assert!(queue.is_active(B));
    assert_eq!(take_ids(&mut queue, B), [1]);
}

#[test]
fn partitions_go_to_different_flows() {
    let mut queue = queue(Access::NonExclusive, 4);
    queue.bind(A);
    queue.bind(B);
    for id in 1..=8 {
        queue.push(id, id as u32, false);
    }
    assert_eq!(take_ids(&mut queue, A), [2, 4, 6, 8]);
    assert_eq!(take_ids(&mut queue, B), [1, 3, 5, 7]);
}

#[test]
fn a_partition_changes_hands_only_when_nothing_of_it_is_in_flight() {
    let mut queue = queue(Access::NonExclusive, 2);
    queue.bind(A);
    // Partition 1 will be B's.
    queue.push(1, 1, false);
    queue.push(2, 1, false);
    let held = queue.take(A).unwrap();
    queue.bind(B);
    assert_eq!(queue.take(B), None, "A still works on a message of this partition");
    assert_eq!(queue.take(A), None, "the partition is leaving A");
    queue.settle(&held);
    assert_eq!(take_ids(&mut queue, B), [2]);
}

#[test]
fn draining_names_everything_that_waits() {
    let mut queue = queue(Access::NonExclusive, 2);
    queue.bind(A);
    (1..=3).for_each(|id| queue.push(id, id as u32, false));
    let entry = queue.take(A).unwrap();
    queue.give_back(entry);
    let mut ids = queue.drain_waiting();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(queue.depth(), 0);
}
