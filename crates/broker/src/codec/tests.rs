//! Frames as the official client libraries send and accept them.

use super::assured::{AckRange, Message, Outcome, Request, kind, par};
use super::client_ctrl::{Login, Welcome};
use super::frame::{self, Decoded, Frame, Response, decode, protocol};
use super::message::{Content, Delivery, Destination, Publish};
use super::{CodecError, sdt, smp};

const MAX_FRAME: usize = 1 << 20;

/// Hex digits with spaces; text in double quotes stands for its bytes.
fn bytes(pattern: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, part) in pattern.split('"').enumerate() {
        if at % 2 == 1 {
            bytes.extend_from_slice(part.replace("\\0", "\0").as_bytes());
            continue;
        }
        let digits: Vec<char> = part.chars().filter(|digit| !digit.is_whitespace()).collect();
        for pair in digits.chunks(2) {
            let pair: String = pair.iter().collect();
            bytes.push(u8::from_str_radix(&pair, 16).unwrap());
        }
    }
    bytes
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    match decode(bytes, MAX_FRAME).unwrap() {
        Decoded::Frame { frame, consumed, skip: 0 } if consumed == bytes.len() => frame,
        other => panic!("expected one whole frame, got {other:?}"),
    }
}

fn published() -> Vec<u8> {
    let mut frame = bytes(
        r#"1b8d00ff 0000004d 000000a4 9812 "cdc/db/orders/0\0" 9606 220b424c 030304 900301
           1706 00000001 0106 00000001 920a 0000000000000000 910a 0000000000000001 26000f"#,
    );
    frame.resize(0xa4, b'x');
    frame
}

#[test]
fn a_frame_is_incomplete_until_its_last_byte() {
    let frame = published();
    for length in 0..frame.len() {
        let needed = if length < 12 { 12 } else { frame.len() };
        assert!(matches!(
            decode(&frame[..length], MAX_FRAME),
            Ok(Decoded::Incomplete { needed: have }) if have == needed
        ));
    }
}

#[test]
fn a_frame_over_the_limit_is_skipped_and_never_needed_whole() {
    let frame = published();
    match decode(&frame[..0x4d], 100).unwrap() {
        Decoded::Frame { frame, consumed: 0x4d, skip } => {
            assert!(frame.is_oversize && frame.body.is_empty());
            assert_eq!(skip, 0xa4 - 0x4d);
            assert_eq!(Publish::decode(&frame).unwrap().message_id, Some(1));
        }
        other => panic!("expected a frame to skip, got {other:?}"),
    }
}

#[test]
fn impossible_lengths_and_foreign_protocols_are_refused() {
    let total_below_header = bytes("038c0001 00000018 00000017");
    assert_eq!(
        decode(&total_below_header, MAX_FRAME).map(|_| ()),
        Err(CodecError::FrameLength { header: 0x18, total: 0x17 })
    );
    let header_below_minimum = bytes("038c0001 0000000b 00000018");
    assert!(decode(&header_below_minimum, MAX_FRAME).is_err());
    let huge_header = bytes("038c0001 7fffffff 7fffffff");
    assert!(decode(&huge_header, MAX_FRAME).is_err());
    assert_eq!(
        decode(b"GET / HTTP/1.1\r\n", MAX_FRAME).map(|_| ()),
        Err(CodecError::Version { found: 7 })
    );
}

#[test]
fn cut_off_parameters_are_errors_and_not_panics() {
    let frame = published();
    for length in 13..0x4d_u8 {
        let mut cut = frame[..usize::from(length)].to_vec();
        cut[7] = length;
        cut[11] = length;
        // Some cuts fall between two parameters; all must come back.
        let _ = Publish::decode(&whole(&cut));
    }
}

#[test]
fn a_published_message_keeps_what_is_the_senders() {
    let frame = published();
    let publish = Publish::decode(&whole(&frame)).unwrap();
    assert_eq!((publish.flow_id, publish.message_id), (Some(1), Some(1)));
    assert_eq!(publish.destination(), Destination::Topic("cdc/db/orders/0"));
    let kept = r#"9812 "cdc/db/orders/0\0" 9606 220b424c 030304 900301 26000f"#;
    assert_eq!(publish.content().params, bytes(kept));
    assert_eq!(publish.content().body.len(), 11 + 76);
}

#[test]
fn queue_topics_name_their_queue() {
    let mut frame = bytes(r##"138d00ff 00000000 00000000 980f "#P2P/QUE/work\0" 2a0904"##);
    let length = frame.len() as u8;
    (frame[7], frame[11]) = (length, length);
    let publish = Publish::decode(&whole(&frame)).unwrap();
    assert_eq!(publish.destination(), Destination::Queue("work"));
}

#[test]
fn a_delivery_carries_ids_flag_and_count() {
    let params = bytes(r#"9807 "c1/0\0" 9606 2202422a 030304 900301 260004"#);
    let content = Content { head: [0x1b, 0, 0xff], params: &params, body: b"body" };
    let delivery = Delivery {
        flow_id: 0x12,
        wire_id: 11,
        previous_id: 10,
        spool_id: Some(1),
        redelivered: Some(1),
    };
    let mut out = Vec::new();
    delivery.put(&mut out, content);
    let expected = bytes(
        r#"1b0d00ff 00000050 00000054 9807 "c1/0\0" 9606 2202422a 030304 900301 260004
           910a 000000000000000b 920a 000000000000000a 1706 00000012 1302
           1f12 4029 0000000000000001 302e 00000001 "body""#,
    );
    assert_eq!(out, expected);
    let frame = whole(&out);
    assert!(frame.is_assured() && frame.body == b"body");
}

#[test]
fn a_first_delivery_has_neither_flag_nor_extension() {
    let content = Content { head: [0x0b, 0, 0xff], params: b"", body: b"" };
    let delivery =
        Delivery { flow_id: 1, wire_id: 5, previous_id: 0, spool_id: None, redelivered: None };
    let mut out = Vec::new();
    delivery.put(&mut out, content);
    // It came as a direct message: assured now, and non-persistent.
    let expected = "1b0d00ff 00000029 00000029 900300 910a 0000000000000005
                    920a 0000000000000000 1706 00000001";
    assert_eq!(out, bytes(expected));
}

#[test]
fn the_partition_key_is_found_among_the_user_properties() {
    let metadata = bytes(
        r#"01 00 000043 2f 00000043 18 04 8000 2b 0000003a
             1c 04 6800 2b 00000012 1c05 6d6900 1c08 6170702d3000
             1c 04 7000 2b 0000001b 1c0e "JMSXGroupID\0" 1c08 "key-1\0""#,
    );
    let mut body = b"attachment!".to_vec();
    body.extend_from_slice(&metadata);
    let summary = [0x22, 11, 0x42, metadata.len() as u8];
    assert_eq!(sdt::partition_key(&summary, &body), Some(&b"key-1"[..]));
    for length in 0..body.len() {
        assert_eq!(sdt::partition_key(&summary, &body[..length]), None);
    }
}

#[test]
fn login_is_read_with_its_credentials() {
    let mut body = bytes(
        r#"01 00 00000000 05 0000000b "name1\0" 86 0000000d "default\0" 17 00000007 03e0 18 00000009 00000003"#,
    );
    let length = body.len() as u8;
    body[5] = length;
    let mut frame = Vec::new();
    frame::put_frame(
        &mut frame,
        protocol::CLIENT_CTRL,
        &bytes("06 06 64513d3d 07 06 63413d3d"),
        &body,
    );
    let login = Login::decode(&whole(&frame)).unwrap().unwrap();
    assert_eq!((login.user.as_str(), login.password.as_str()), ("u", "p"));
    assert_eq!((login.client_name.as_str(), login.vpn.as_str()), ("name1", "default"));
    assert_eq!(login.keep_alive_seconds, Some(3));
    assert!(login.is_basic);
}

#[test]
fn the_login_answer_is_well_formed() {
    let welcome = Welcome {
        client_name: "name1",
        vpn: "",
        user_id: b"me\0",
        connection: 7,
        max_message_size: 1000,
    };
    let mut out = Vec::new();
    welcome.put(&mut out, None);
    let frame = whole(&out);
    assert_eq!(frame.header[12..], bytes(r#"0808 000000c8 "OK""#));
    assert_eq!(frame.body[2..6], (frame.body.len() as u32).to_be_bytes());
    let p2p = b"#P2P/v:tidemark/00000007/name1/#\0";
    assert!(frame.body.windows(p2p.len()).any(|window| window == p2p));
}

#[test]
fn version_3_requests_are_read() {
    let body = bytes(r#"03 04 00000015 8706 "qc1\0" 8303ff 0b0301 210301"#);
    let request = Request::decode(&body).unwrap();
    assert_eq!((request.version, request.kind), (3, kind::BIND));
    assert_eq!(request.text(par::QUEUE, "queue"), Ok(Some("qc1")));
    assert_eq!(request.window(), Some(255));
    assert_eq!(request.u8(par::WANTS_FLOW_CHANGES), Some(1));
}

#[test]
fn version_2_requests_are_read_and_answered_in_kind() {
    let body = bytes("02 5003 8606 00000002 000000");
    let request = Request::decode(&body).unwrap();
    assert_eq!((request.version, request.kind), (2, kind::UNBIND));
    assert_eq!(request.u32(par::FLOW_ID), Some(2));
    let mut out = Vec::new();
    let answer = Message::new(2, kind::UNBIND).u32(par::FLOW_ID, 2);
    answer.put(&mut out, None, Some(Response::OK));
    assert_eq!(whole(&out).body, bytes("02 5003 0606 00000002 000000"));
}

#[test]
fn publish_acks_look_as_clients_expect() {
    let mut out = Vec::new();
    Message::new(3, kind::ACK)
        .u32(par::FLOW_ID, 0x1f)
        .u64(par::LAST_ACKED, 3)
        .u8(par::WINDOW, 255)
        .put(&mut out, None, Some(Response::new(503, "Spool Over Quota")));
    let expected = r#"03090001 00000022 0000003b 0816 000001f7 "Spool Over Quota"
                      03 03 00000019 0606 0000001f 020a 0000000000000003 0303ff"#;
    assert_eq!(out, bytes(expected));
}

#[test]
fn acknowledgement_ranges_have_their_outcome() {
    let body = bytes(
        "03 03 00000051 8606 00000002 820a 0000000000000016 8303ff
         8512 0000000000000000 0000000000000001
         8513 0000000000000002 0000000000000002 01
         8513 0000000000000003 0000000000000003 03",
    );
    let request = Request::decode(&body).unwrap();
    let ranges = request.values(par::APPLICATION_ACK).map(|value| AckRange::decode(value).unwrap());
    let outcomes: Vec<_> = ranges.map(|range| (range.first, range.last, range.outcome)).collect();
    let expected = [(0, 1, Outcome::Accepted), (2, 2, Outcome::Failed), (3, 3, Outcome::Rejected)];
    assert_eq!(outcomes, expected);
    assert!(AckRange::decode(&[0; 15]).is_err());
}

#[test]
fn subscription_requests_are_read() {
    let body = bytes(r#"82 0000001a 0c 03 "q1\0" 0f "cdc/*/orders/>\0""#);
    let request = smp::Request::decode(&body).unwrap();
    assert!(request.wants_response);
    let expected = smp::Change::AddToQueue { queue: "q1", topic: "cdc/*/orders/>" };
    assert_eq!(request.change, expected);
    let silent = bytes(r#"80 0000000a 00 "a/>\0""#);
    let request = smp::Request::decode(&silent).unwrap();
    assert!(!request.wants_response);
    assert_eq!(request.change, smp::Change::AddDirect { topic: "a/>" });
    assert!(smp::Request::decode(&body[..10]).is_err());
}
