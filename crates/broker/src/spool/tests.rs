//! What survives a restart, and what gives its disk space back.

use std::fs;
use std::path::{Path, PathBuf};

use super::catalog::{Change, TEMPORARY_BIT};
use super::record::Origin;
use super::{Recovered, Segment, Spool, SpoolError};
use crate::codec::message::Content;
use crate::queue::{Access, QueueSettings};

const SEGMENT_SIZE: u64 = 4096;
const QUEUE: u32 = 1;

/// A spool directory of one test, with queue 1 in it.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        let (mut spool, _) = files.open().unwrap();
        create_queue(&mut spool, QUEUE);
        store(&mut spool);
        files
    }

    fn open(&self) -> Result<(Spool, Recovered), SpoolError> {
        Spool::open(self.dir.path(), SEGMENT_SIZE)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let numbers = Segment::list(self.dir.path()).unwrap();
        numbers.into_iter().map(|number| self.path(number)).collect()
    }

    fn path(&self, number: u64) -> PathBuf {
        Segment::planned(self.dir.path(), number).path().to_owned()
    }
}

fn create_queue(spool: &mut Spool, queue: u32) {
    let settings = QueueSettings {
        name: format!("q{queue}"),
        access: Access::Exclusive,
        partitions: 0,
        quota_mb: None,
        max_redelivery: None,
        dead_message_queue: None,
    };
    spool.change(Change::QueueCreated { queue, settings });
}

fn store(spool: &mut Spool) {
    let batch = spool.take_batch();
    batch.write().unwrap();
    spool.batch_done(&batch);
}

fn append(spool: &mut Spool, body: &[u8], queues: &[u32]) -> u64 {
    let content = Content { head: [0x1b, 0, 0xff], params: b"params", body };
    spool.append_message(None, None, content, queues).id
}

fn ids(recovered: &Recovered, queue: u32) -> Vec<u64> {
    let messages = recovered.queues.get(&queue).map(Vec::as_slice).unwrap_or_default();
    messages.iter().map(|(id, _, _)| *id).collect()
}

fn body(spool: &Spool, id: u64) -> Vec<u8> {
    let location = spool.locate(id).unwrap();
    let bytes = location.read().unwrap();
    location.message(&bytes).unwrap().content.body.to_vec()
}

fn flip_byte(path: &Path, position: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[position] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

#[test]
fn messages_acks_ids_and_flows_survive_a_restart() {
    let files = Files::new();
    let (mut spool, _) = files.open().unwrap();
    create_queue(&mut spool, 2);
    let suid = spool.catalog.suid;
    let first = append(&mut spool, b"first", &[QUEUE, 2]);
    let second = append(&mut spool, b"second", &[QUEUE]);
    let content = Content { head: [0x1b, 0, 0xff], params: b"", body: b"third" };
    let origin = Some(Origin { flow: "pub-1", message_id: 77 });
    let third = spool.append_message(Some(9), origin, content, &[2]).id;
    spool.ack(QUEUE, &[first]);
    store(&mut spool);
    drop(spool);

    let (mut spool, recovered) = files.open().unwrap();
    assert_eq!(ids(&recovered, QUEUE), [second]);
    assert_eq!(ids(&recovered, 2), [first, third]);
    assert_eq!(recovered.queues[&2][1], (third, 9, 5));
    assert_eq!(body(&spool, third), b"third");
    assert_eq!(spool.catalog.suid, suid);
    assert_eq!(spool.catalog.flows["pub-1"], 77);
    assert_eq!(append(&mut spool, b"next", &[QUEUE]), third + 1);
}

#[test]
fn what_was_not_written_is_gone_and_nothing_else() {
    let files = Files::new();
    let (mut spool, _) = files.open().unwrap();
    let kept = append(&mut spool, b"kept", &[QUEUE]);
    store(&mut spool);
    append(&mut spool, b"lost", &[QUEUE]);
    drop(spool);
    let (_, recovered) = files.open().unwrap();
    assert_eq!(ids(&recovered, QUEUE), [kept]);
    assert_eq!(recovered.torn_tail, None);
}

#[test]
fn ids_that_other_queues_would_get_are_left_out() {
    let files = Files::new();
    let (mut spool, _) = files.open().unwrap();
    spool.ids_between = 99;
    let first = append(&mut spool, b"first", &[QUEUE]);
    assert_eq!(append(&mut spool, b"second", &[QUEUE]), first + 100);
    store(&mut spool);
    drop(spool);
    assert_eq!(ids(&files.open().unwrap().1, QUEUE), [first, first + 100]);
}

#[test]
fn a_torn_tail_is_cut_and_reported() {
    let files = Files::new();
    let (mut spool, _) = files.open().unwrap();
    let kept = append(&mut spool, b"kept", &[QUEUE]);
    store(&mut spool);
    append(&mut spool, b"torn", &[QUEUE]);
    store(&mut spool);
    drop(spool);
    let path = files.segments().pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let torn_at = whole.windows(4).rposition(|window| window == b"TMR1").unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();

    let (spool, recovered) = files.open().unwrap();
    assert_eq!(ids(&recovered, QUEUE), [kept]);
    let torn = recovered.torn_tail.unwrap();
    assert_eq!((torn.path, torn.position), (path.clone(), torn_at as u64));
    assert_eq!(torn.cut_bytes, (whole.len() - 3 - torn_at) as u64);
    assert_eq!(fs::metadata(&path).unwrap().len(), torn_at as u64);
    // The id of the torn message may be known to somebody, so it is not used again.
    assert!(spool.catalog.next_id > kept + 2);
    drop(spool);
    assert_eq!(files.open().unwrap().1.torn_tail, None);
}

#[test]
fn a_write_that_reached_the_disk_out_of_order_is_a_torn_tail_too() {
    let files = Files::new();
    let (mut spool, _) = files.open().unwrap();
    let kept = append(&mut spool, b"kept", &[QUEUE]);
    store(&mut spool);
    append(&mut spool, b"page that never came", &[QUEUE]);
    append(&mut spool, b"page that came", &[QUEUE]);
    store(&mut spool);
    drop(spool);
    let path = files.segments().pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let hole = bytes.windows(5).position(|window| window == b"never").unwrap();
    flip_byte(&path, hole);
    let (_, recovered) = files.open().unwrap();
    assert_eq!(ids(&recovered, QUEUE), [kept]);
    assert!(recovered.torn_tail.is_some());
}

#[test]
fn a_damaged_middle_is_refused_with_file_and_position() {
    let files = Files::new();
    let (mut spool, _) = files.open().unwrap();
    append(&mut spool, b"damaged", &[QUEUE]);
    store(&mut spool);
    append(&mut spool, b"later", &[QUEUE]);
    store(&mut spool);
    drop(spool);
    let path = files.segments().pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let hit = bytes.windows(7).position(|window| window == b"damaged").unwrap();
    let record = bytes[..hit].windows(4).rposition(|window| window == b"TMR1").unwrap();
    flip_byte(&path, hit);
    let before = fs::read(&path).unwrap();
    match files.open().map(|_| ()) {
        Err(SpoolError::Damaged { path: named, position }) => {
            assert_eq!((named, position), (path.clone(), record as u64));
        }
        other => panic!("expected damage to be refused, got {other:?}"),
    }
    assert_eq!(fs::read(&path).unwrap(), before, "a refused spool must stay as it is");
}

#[test]
fn damage_in_an_older_file_and_a_missing_file_are_refused() {
    let files = Files::new();
    for _ in 0..3 {
        let (mut spool, _) = files.open().unwrap();
        append(&mut spool, b"message", &[QUEUE]);
        store(&mut spool);
    }
    let paths = files.segments();
    let length = fs::metadata(&paths[1]).unwrap().len() as usize;
    flip_byte(&paths[1], length - 1);
    assert!(matches!(
        files.open().map(|_| ()),
        Err(SpoolError::Damaged { path, .. }) if path == paths[1]
    ));
    fs::remove_file(&paths[1]).unwrap();
    assert!(matches!(
        files.open().map(|_| ()),
        Err(SpoolError::Missing { path }) if path == paths[1]
    ));
}

#[test]
fn a_second_broker_on_the_same_directory_is_refused() {
    let files = Files::new();
    let _first = files.open().unwrap();
    assert!(matches!(files.open().map(|_| ()), Err(SpoolError::InUse { .. })));
}

#[test]
fn files_without_live_messages_are_deleted() {
    let files = Files::new();
    let (mut spool, _) = files.open().unwrap();
    let mut stored = Vec::new();
    for _ in 0..40 {
        stored.push(append(&mut spool, &[7; 500], &[QUEUE]));
        store(&mut spool);
    }
    assert!(files.segments().len() > 4);
    spool.ack(QUEUE, &stored);
    store(&mut spool);
    assert_eq!(files.segments().len(), 1);
    drop(spool);
    let (spool, recovered) = files.open().unwrap();
    assert!(ids(&recovered, QUEUE).is_empty());
    assert!(spool.catalog.queues.contains_key(&QUEUE));
    assert!(spool.catalog.next_id > *stored.last().unwrap());
}

#[test]
fn a_few_survivors_are_copied_forward_and_do_not_hold_files() {
    let files = Files::new();
    let (mut spool, _) = files.open().unwrap();
    let survivor = append(&mut spool, b"survivor", &[QUEUE]);
    for _ in 0..200 {
        let id = append(&mut spool, &[7; 500], &[QUEUE]);
        spool.ack(QUEUE, &[id]);
        store(&mut spool);
        spool.reclaim_step().unwrap();
    }
    let bytes = spool.total_bytes();
    assert!(bytes < 8 * SEGMENT_SIZE, "{bytes} bytes are kept for one small message");
    assert_eq!(body(&spool, survivor), b"survivor");
    drop(spool);
    let (spool, recovered) = files.open().unwrap();
    assert_eq!(ids(&recovered, QUEUE), [survivor]);
    assert_eq!(body(&spool, survivor), b"survivor");
}

#[test]
fn temporary_and_deleted_queues_leave_nothing_behind() {
    let files = Files::new();
    let (mut spool, _) = files.open().unwrap();
    create_queue(&mut spool, 2);
    append(&mut spool, b"temporary", &[TEMPORARY_BIT]);
    append(&mut spool, b"deleted", &[2]);
    spool.change(Change::QueueDeleted { queue: 2 });
    store(&mut spool);
    drop(spool);
    let (spool, recovered) = files.open().unwrap();
    assert!(recovered.queues.is_empty());
    assert!(!spool.catalog.queues.contains_key(&2));
}
