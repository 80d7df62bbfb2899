//! The core without sockets: requests go in as decoded frames, output is looked at as bytes.

use super::*;
use crate::codec::assured::{Message, Request, kind, par};
use crate::codec::frame::{self, Decoded, Frame};
use crate::codec::message::Publish;

struct Bench {
    core: Core,
    _dir: tempfile::TempDir,
}

fn config() -> Config {
    let queue = |name: &str, topic: &str| QueueConfig {
        name: name.to_owned(),
        topics: vec![topic.to_owned()],
        ..QueueConfig::default()
    };
    let work = QueueConfig {
        max_redelivery: Some(1),
        dead_message_queue: Some("dead".to_owned()),
        ..queue("work", "t/>")
    };
    let dead = QueueConfig { topics: Vec::new(), ..queue("dead", "") };
    Config { queues: vec![work, queue("copy", "t/both"), dead], ..Config::default() }
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (spool, recovered) = Spool::open(dir.path(), 1 << 20).unwrap();
        let mut bench = Self { core: Core::new(&config(), spool, recovered).unwrap(), _dir: dir };
        bench.commit();
        bench
    }

    fn commit(&mut self) {
        let round = self.core.take_round();
        round.batch.write().unwrap();
        self.core.commit(round).unwrap();
    }

    fn connect(&mut self, name: &str) -> u64 {
        let client = Client {
            name: name.to_owned(),
            user: String::new(),
            provision: true,
            consume: true,
            publish: true,
        };
        self.core.connect(client, Arc::default())
    }

    fn open_publisher(&mut self, connection: u64, name: &str, last_acked: u64) -> u32 {
        let flow = self.core.next_flow;
        let open =
            OpenPublisher { version: 3, tag: None, name: name.to_owned(), last_acked, window: 50 };
        self.core.open_publisher(connection, open);
        self.commit();
        flow
    }

    fn publish(&mut self, connection: u64, flow: u32, id: u64, topic: &str) {
        self.publish_body(connection, flow, id, topic, b"body");
    }

    fn publish_body(&mut self, connection: u64, flow: u32, id: u64, topic: &str, body: &[u8]) {
        let mut params = vec![0x98, topic.len() as u8 + 3];
        params.extend_from_slice(topic.as_bytes());
        params.push(0);
        params.extend_from_slice(&[0x90, 3, 1, 0x17, 6]);
        params.extend_from_slice(&flow.to_be_bytes());
        params.extend_from_slice(&[0x91, 10]);
        params.extend_from_slice(&id.to_be_bytes());
        let mut bytes = Vec::new();
        frame::put_frame(&mut bytes, frame::protocol::MESSAGE, &params, body);
        bytes[0] = 0x1b;
        let Ok(Decoded::Frame { frame, .. }) = frame::decode(&bytes, 1 << 20) else { panic!() };
        self.core.publish(connection, &Publish::decode(&frame).unwrap(), false);
    }

    fn request(&mut self, message: Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.put(&mut bytes, None, None);
        bytes[frame::HEADER_LEN..].to_vec()
    }

    /// Binds and returns the flow's id; private ids if it settles.
    fn bind(&mut self, connection: u64, queue: &str, settles: bool) -> u32 {
        let flow = self.core.next_flow;
        let mut message =
            Message::new(3, kind::BIND).text(par::QUEUE, queue).window(255).u8(par::DURABILITY, 1);
        if settles {
            message = message.u8(par::FLOW_TYPE, 3).u64(par::LAST_RECEIVED, 100);
        }
        let body = self.request(message);
        self.core.bind(connection, &Request::decode(&body).unwrap(), None).unwrap();
        flow
    }

    fn ack(&mut self, connection: u64, flow: u32, first: u64, last: u64, outcome: u8) {
        let mut range = first.to_be_bytes().to_vec();
        range.extend_from_slice(&last.to_be_bytes());
        range.push(outcome);
        let message = Message::new(3, kind::ACK)
            .u32(par::FLOW_ID, flow)
            .u64(par::LAST_ACKED, last)
            .bytes(par::APPLICATION_ACK, &range);
        let body = self.request(message);
        self.core.consumer_ack(connection, &Request::decode(&body).unwrap()).unwrap();
        self.commit();
    }

    /// (wire id, redelivered) of what the connection would send now.
    fn deliveries(&mut self, connection: u64) -> Vec<(u64, Option<u32>)> {
        let mut output = Output::default();
        assert!(self.core.take_output(connection, &mut output));
        let ids = output.deliveries.iter().map(|planned| planned.delivery);
        ids.map(|delivery| (delivery.wire_id, delivery.redelivered)).collect()
    }

    /// Last-acked ids with response codes, of the publish acks waiting for the connection.
    fn publish_acks(&mut self, connection: u64) -> Vec<(u64, u32)> {
        let mut output = Output::default();
        self.core.take_output(connection, &mut output);
        let mut rest = &output.bytes[..];
        let mut acks = Vec::new();
        while let Ok(Decoded::Frame { frame, consumed, .. }) = frame::decode(rest, 1 << 20) {
            let request = Request::decode(frame.body).unwrap();
            if request.kind == kind::ACK {
                acks.push((request.u64(par::LAST_ACKED).unwrap(), response_code(&frame)));
            }
            rest = &rest[consumed..];
        }
        acks
    }

    fn depth(&self, queue: &str) -> usize {
        self.core.queue_depths().find(|(name, _)| *name == queue).unwrap().1
    }
}

fn response_code(frame: &Frame<'_>) -> u32 {
    let response = frame.params().map(Result::unwrap).find(|param| param.raw[0] == 8).unwrap();
    u32::from_be_bytes(response.value[..4].try_into().unwrap())
}

#[test]
fn a_message_is_acknowledged_only_when_it_is_on_disk() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    bench.publish(client, flow, 1, "t/x");
    bench.publish(client, flow, 2, "nobody/listens");
    assert!(bench.publish_acks(client).is_empty());
    assert_eq!(bench.depth("work"), 0);
    bench.commit();
    assert_eq!(bench.publish_acks(client), [(2, 200)]);
    assert_eq!(bench.depth("work"), 1);
}

#[test]
fn a_retransmitted_message_is_acknowledged_and_not_stored_again() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    bench.publish(client, flow, 1, "t/x");
    bench.commit();
    bench.publish_acks(client);
    bench.publish(client, flow, 1, "t/x");
    bench.commit();
    assert_eq!(bench.publish_acks(client), [(1, 200)]);
    assert_eq!(bench.depth("work"), 1);
}

#[test]
fn a_refusal_names_its_message_after_acks_of_the_earlier_ones() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    bench.publish(client, flow, 1, "t/x");
    bench.publish(client, flow, 2, "#P2P/QUE/unknown");
    bench.publish(client, flow, 3, "t/x");
    bench.commit();
    assert_eq!(bench.publish_acks(client), [(1, 200), (2, 400), (3, 200)]);
}

#[test]
fn a_publisher_flow_outlives_its_connection_and_unknown_ones_are_refused() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    let name = bench.core.connections[&client].publishers[&flow].name.to_string();
    bench.publish(client, flow, 1, "t/x");
    bench.commit();
    let again = bench.connect("a");
    assert!(!bench.core.is_connected(client), "the older connection of the name is gone");
    let flow = bench.open_publisher(again, &name, 0);
    assert_eq!(bench.core.publishers[name.as_str()].last_done, 1);
    bench.publish(again, flow, 1, "t/x");
    bench.publish(again, flow, 2, "t/x");
    bench.commit();
    assert_eq!(bench.depth("work"), 2);
    bench.open_publisher(again, "never-heard-of", 0);
    assert!(!bench.core.publishers.contains_key("never-heard-of"));
}

#[test]
fn one_message_for_two_queues_leaves_each_on_its_own() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    bench.publish(client, flow, 1, "t/both");
    bench.commit();
    let on_work = bench.bind(client, "work", false);
    assert_eq!(bench.deliveries(client), [(1, None)]);
    bench.ack(client, on_work, 0, 1, 0);
    bench.bind(client, "copy", false);
    assert_eq!(bench.deliveries(client), [(1, None)]);
}

#[test]
fn released_messages_come_again_flagged_and_wear_out_into_the_dead_queue() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    (1..=3).for_each(|id| bench.publish(client, flow, id, "t/x"));
    bench.commit();
    let first = bench.bind(client, "work", false);
    assert_eq!(bench.deliveries(client), [(1, None), (2, None), (3, None)]);
    bench.ack(client, first, 2, 2, 0);
    bench.core.release_flow(client, first);
    let second = bench.bind(client, "work", false);
    assert_eq!(bench.deliveries(client), [(1, Some(1)), (3, Some(1))]);
    bench.core.release_flow(client, second);
    bench.commit();
    assert_eq!((bench.depth("work"), bench.depth("dead")), (0, 2));
}

#[test]
fn failed_messages_get_new_ids_above_the_last_received_one() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    (1..=2).for_each(|id| bench.publish(client, flow, id, "t/x"));
    bench.commit();
    let settling = bench.bind(client, "work", true);
    assert_eq!(bench.deliveries(client), [(101, None), (102, None)]);
    bench.ack(client, settling, 101, 101, 1);
    assert_eq!(bench.deliveries(client), [(103, Some(1))]);
    bench.ack(client, settling, 0, 103, 3);
    assert_eq!((bench.depth("work"), bench.depth("dead")), (0, 2));
}

#[test]
fn a_client_that_comes_from_another_spool_gets_ids_above_what_it_knows() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    bench.publish(client, flow, 1, "t/x");
    bench.commit();
    let message =
        Message::new(3, kind::BIND).text(par::QUEUE, "work").window(9).u64(par::LAST_RECEIVED, 70);
    let body = bench.request(message);
    bench.core.bind(client, &Request::decode(&body).unwrap(), None).unwrap();
    assert_eq!(bench.deliveries(client), [(71, None)]);
}

#[test]
fn publishers_are_not_read_while_the_disk_is_behind() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    let (mut id, body) = (0, [0; 100_000]);
    while bench.core.may_read(client) {
        id += 1;
        bench.publish_body(client, flow, id, "t/x", &body);
        assert!(bench.core.spool.pending_bytes() <= MAX_PENDING_BYTES + 2 * body.len());
    }
    bench.commit();
    assert!(bench.core.may_read(client));
    assert_eq!(bench.depth("work") as u64, id);
}

#[test]
fn a_deleted_queue_takes_its_consumers_and_messages_with_it() {
    let mut bench = Bench::new();
    let client = bench.connect("a");
    let flow = bench.open_publisher(client, "", 0);
    bench.publish(client, flow, 1, "t/x");
    bench.commit();
    bench.bind(client, "work", false);
    bench.deliveries(client);
    // One more is on its way to disk.
    bench.publish(client, flow, 2, "t/x");
    let queue = bench.core.queue_names["work"];
    bench.core.remove_queue(queue);
    bench.commit();
    assert!(bench.core.connections[&client].flows.is_empty());
    assert_eq!(bench.core.spool.message_count(), 0);
    assert_eq!(bench.publish_acks(client).last(), Some(&(2, 200)));
}
