//! What the fuzz target of the wire format calls, and the tests with what the fuzzer found.

use super::codec::assured::{AckRange, Message, Request, par};
use super::codec::client_ctrl::Login;
use super::codec::frame::{self, Decoded, FLAG_ADF, Frame, HEADER_LEN, MAX_HEADER_LEN};
use super::codec::message::{Delivery, Publish};
use super::codec::smp;

/// Small, so that frames above it come up.
const MAX_FRAME: usize = 2000;

/// A delivery adds fewer bytes to a header.
const MAX_ADDED: usize = 64;

/// Bytes of a stream, and the same bytes as parts of an answer.
///
/// # Panics
/// If the bytes are neither a frame nor an error nor incomplete, or if what the broker writes is not what
/// it reads.
pub fn smf(input: &[u8]) {
    read_stream(input);
    read_requests(input);
    write_answer(input);
}

fn read_stream(mut rest: &[u8]) {
    loop {
        match frame::decode(rest, MAX_FRAME) {
            Err(_) => return,
            Ok(Decoded::Incomplete { needed }) => {
                // More is asked for, but never more than a connection's buffer.
                assert!(needed > rest.len() && needed <= MAX_FRAME.max(MAX_HEADER_LEN));
                return;
            }
            Ok(Decoded::Frame { frame, consumed, skip }) => {
                assert!((HEADER_LEN..=rest.len()).contains(&consumed));
                assert_eq!(frame.header.len() + frame.body.len(), consumed);
                assert_eq!(frame.is_oversize, consumed as u64 + skip > MAX_FRAME as u64);
                read_frame(&frame);
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                rest = &rest[consumed + skip.min(rest.len() - consumed)..];
            }
        }
    }
}

/// Whatever its protocol says: a wrong one must do no harm.
fn read_frame(frame: &Frame<'_>) {
    assert!(frame.correlation_tag() != Ok(None) || frame.params().all(|param| param.is_ok()));
    if let Ok(Some(login)) = Login::decode(frame) {
        assert!(login.client_name.len() + login.vpn.len() <= frame.body.len());
    }
    read_requests(frame.body);
    if let Ok(publish) = Publish::decode(frame) {
        write_message(&publish, frame);
    }
}

fn read_requests(body: &[u8]) {
    assert!(body.len() >= 6 || smp::Request::decode(body).is_err());
    let Ok(request) = Request::decode(body) else { return };
    let values = (1..=0x3f).flat_map(|kind| request.values(kind));
    assert!(values.map(<[u8]>::len).sum::<usize>() <= body.len());
    for range in request.values(par::APPLICATION_ACK) {
        assert_eq!(AckRange::decode(range).is_ok(), range.len() >= 16);
    }
}

/// A message comes out as it went in, whether it is delivered at once or from a queue.
fn write_message(publish: &Publish<'_>, frame: &Frame<'_>) {
    let content = publish.content();
    if HEADER_LEN + content.params.len() + MAX_ADDED > MAX_HEADER_LEN {
        return;
    }
    let is_assured = content.head[0] & FLAG_ADF != 0;
    let mut direct = Vec::new();
    publish.put_direct(&mut direct);
    let again = Publish::decode(&whole(&direct)).expect("what was read once");
    assert_eq!((again.topic, again.content().body), (publish.topic, frame.body));
    assert_eq!(again.partition_hash(), publish.partition_hash());
    if !is_assured {
        assert_eq!(again.content().params, content.params);
    }

    let mut delivered = Vec::new();
    let delivery = Delivery {
        flow_id: 3,
        wire_id: 5,
        previous_id: 4,
        spool_id: Some(1),
        redelivered: Some(2),
    };
    delivery.put(&mut delivered, content);
    let delivered = whole(&delivered);
    let again = Publish::decode(&delivered).expect("what was read once");
    assert!(delivered.is_assured());
    assert_eq!((again.flow_id, again.message_id), (Some(3), Some(5)));
    assert_eq!((again.topic, again.content().body), (publish.topic, frame.body));
    // A direct message of a queue becomes a non-persistent one.
    let mode: &[u8] = if is_assured { &[] } else { &[0x90, 3, 0] };
    assert_eq!(again.content().params, [content.params, mode].concat());
    assert_eq!(again.partition_hash(), publish.partition_hash());
}

/// The input chooses version, kind, tag and parameters of an answer, which is then read as a request.
fn write_answer(input: &[u8]) {
    let [version, kind, tag, params @ ..] = input else { return };
    // The length of version 2 has twelve bits, and its kind four.
    let (version, kind) = (2 + version % 2, kind & 0x0f);
    let params = parameters(&params[..params.len().min(4000)]);
    let mut message = Message::new(version, kind);
    for (kind, value) in &params {
        message = message.bytes(*kind, value);
    }
    let tag = [*tag, 1, 2];
    let mut out = Vec::new();
    message.put(&mut out, Some(tag), None);
    let frame = whole(&out);
    assert_eq!(frame.correlation_tag(), Ok(Some(tag)));
    let request = Request::decode(frame.body).expect("what was just written");
    assert_eq!((request.version, request.kind), (version, kind));
    for kind in 1..=0x3f {
        let written = params.iter().filter(|param| param.0 == kind).map(|param| param.1);
        assert!(request.values(kind).eq(written), "parameter {kind}");
    }
}

/// A kind, a length and as many bytes, again and again.
fn parameters(mut input: &[u8]) -> Vec<(u8, &[u8])> {
    let mut params = Vec::new();
    while let [kind, length, rest @ ..] = input {
        let (value, after) = rest.split_at(rest.len().min(usize::from(*length) * 2));
        params.push((1 + kind % 0x3f, value));
        input = after;
    }
    params
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    match frame::decode(bytes, usize::MAX) {
        Ok(Decoded::Frame { frame, consumed, skip: 0 }) if consumed == bytes.len() => frame,
        other => unreachable!("expected one whole frame, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// A new finding is a test once it is there.
    #[test]
    fn what_the_fuzzer_found_keeps_the_promises() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/smf");
        let files: Vec<_> = std::fs::read_dir(folder).expect("a folder").collect();
        assert!(files.len() > 2, "{} files", files.len());
        for file in files {
            let path = file.expect("a file").path();
            let input = std::fs::read(&path).expect("a file");
            let checked = std::panic::catch_unwind(|| super::smf(&input));
            assert!(checked.is_ok(), "{}", path.display());
        }
    }
}
