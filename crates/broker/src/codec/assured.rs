//! Control of assured delivery: flows, acknowledgements and endpoints (`AssuredCtrl`).
//!
//! Clients speak version 3 because the login answer offers it; a request of version 2 is
//! understood as well and answered in its own version.

use super::frame::{self, Response, protocol};
use super::{CodecError, text};

pub(crate) mod kind {
    pub(crate) const OPEN_PUBLISHER: u8 = 0x00;
    pub(crate) const ACK: u8 = 0x03;
    pub(crate) const BIND: u8 = 0x04;
    pub(crate) const UNBIND: u8 = 0x05;
    pub(crate) const CLOSE_PUBLISHER: u8 = 0x07;
    pub(crate) const CREATE: u8 = 0x08;
    pub(crate) const DELETE: u8 = 0x09;
    pub(crate) const FLOW_CHANGE: u8 = 0x0c;
}

pub(crate) mod par {
    pub(crate) const LAST_ACKED: u8 = 0x02;
    pub(crate) const WINDOW: u8 = 0x03;
    pub(crate) const APPLICATION_ACK: u8 = 0x05;
    pub(crate) const FLOW_ID: u8 = 0x06;
    pub(crate) const QUEUE: u8 = 0x07;
    pub(crate) const TOPIC_ENDPOINT: u8 = 0x08;
    pub(crate) const FLOW_NAME: u8 = 0x0a;
    pub(crate) const DURABILITY: u8 = 0x0b;
    pub(crate) const ACCESS: u8 = 0x0c;
    pub(crate) const SELECTOR: u8 = 0x0d;
    pub(crate) const WIDE_WINDOW: u8 = 0x0e;
    pub(crate) const LAST_RECEIVED: u8 = 0x10;
    pub(crate) const OTHERS_PERMISSIONS: u8 = 0x11;
    pub(crate) const FLOW_TYPE: u8 = 0x12;
    pub(crate) const QUOTA_MB: u8 = 0x13;
    pub(crate) const MAX_MESSAGE_SIZE: u8 = 0x14;
    pub(crate) const GRANTED_PERMISSIONS: u8 = 0x15;
    pub(crate) const RESPECTS_TTL: u8 = 0x16;
    pub(crate) const ACTIVE: u8 = 0x20;
    pub(crate) const WANTS_FLOW_CHANGES: u8 = 0x21;
    pub(crate) const BEHAVIOUR: u8 = 0x22;
    pub(crate) const PUBLISHER_ID: u8 = 0x23;
    pub(crate) const MAX_REDELIVERY: u8 = 0x2a;
    pub(crate) const ENDPOINT_ID: u8 = 0x2c;
    pub(crate) const MAX_UNACKED: u8 = 0x31;
    pub(crate) const REPLAY_START: u8 = 0x33;
    pub(crate) const SUID: u8 = 0x36;
}

#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) version: u8,
    pub(crate) kind: u8,
    params: Vec<(u8, &'a [u8])>,
}

impl<'a> Request<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, CodecError> {
        let short = CodecError::Truncated { what: "assured-delivery request" };
        let (version, kind, header, length) = match *body {
            [version, a, b, ..] if version < 3 => {
                let word = u16::from_be_bytes([a, b]);
                (version, (word >> 12) as u8, 3, usize::from(word & 0x0fff) * 4)
            }
            [version, kind, a, b, c, d, ..] => {
                (version, kind, 6, u32::from_be_bytes([a, b, c, d]) as usize)
            }
            _ => return Err(short),
        };
        let params = decode_params(body.get(header..length).ok_or(short)?)?;
        Ok(Self { version, kind, params })
    }

    pub(crate) fn has(&self, kind: u8) -> bool {
        self.params.iter().any(|(have, _)| *have == kind)
    }

    pub(crate) fn values(&self, kind: u8) -> impl Iterator<Item = &'a [u8]> {
        self.params.iter().filter(move |(have, _)| *have == kind).map(|(_, value)| *value)
    }

    pub(crate) fn u8(&self, kind: u8) -> Option<u8> {
        self.values(kind).next()?.first().copied()
    }

    pub(crate) fn u32(&self, kind: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.values(kind).next()?.try_into().ok()?))
    }

    pub(crate) fn u64(&self, kind: u8) -> Option<u64> {
        Some(u64::from_be_bytes(self.values(kind).next()?.try_into().ok()?))
    }

    pub(crate) fn text(&self, kind: u8, what: &'static str) -> Result<Option<&'a str>, CodecError> {
        self.values(kind).next().map(|value| text(value, what)).transpose()
    }

    /// The window the client asks for; the wide form is for windows above 255.
    pub(crate) fn window(&self) -> Option<u32> {
        self.u32(par::WIDE_WINDOW).or_else(|| self.u8(par::WINDOW).map(u32::from))
    }
}

fn decode_params(mut rest: &[u8]) -> Result<Vec<(u8, &[u8])>, CodecError> {
    let short = CodecError::Truncated { what: "assured-delivery parameter" };
    let mut params = Vec::with_capacity(8);
    while let Some(first) = rest.first() {
        let kind = first & 0x3f;
        if kind == 0 {
            rest = &rest[1..];
            continue;
        }
        let (prefix, end) = match rest.get(1) {
            Some(0) => match rest.get(2..6) {
                Some(&[a, b, c, d]) => (6, u32::from_be_bytes([a, b, c, d]) as usize),
                _ => return Err(short),
            },
            Some(short) => (2, usize::from(*short)),
            None => return Err(short),
        };
        if end < prefix || end > rest.len() {
            return Err(short);
        }
        params.push((kind, &rest[prefix..end]));
        rest = &rest[end..];
    }
    Ok(params)
}

/// How one message that a consumer had was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Failed,
    Rejected,
}

/// One application acknowledgement: wire ids `first..=last` of the flow it came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AckRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) outcome: Outcome,
}

impl AckRange {
    pub(crate) fn decode(value: &[u8]) -> Result<Self, CodecError> {
        let short = CodecError::Truncated { what: "acknowledgement range" };
        let Some((first, rest)) = value.split_first_chunk::<8>() else { return Err(short) };
        let Some((last, rest)) = rest.split_first_chunk::<8>() else { return Err(short) };
        let outcome = match rest.first() {
            None | Some(0) => Outcome::Accepted,
            Some(3) => Outcome::Rejected,
            // 1 failed, 2 released: both mean "give it to somebody again".
            Some(_) => Outcome::Failed,
        };
        let (first, last) = (u64::from_be_bytes(*first), u64::from_be_bytes(*last));
        Ok(Self { first, last, outcome })
    }
}

/// Builds one assured-delivery control frame.
pub(crate) struct Message {
    version: u8,
    kind: u8,
    params: Vec<u8>,
}

impl Message {
    pub(crate) fn new(version: u8, kind: u8) -> Self {
        Self { version, kind, params: Vec::with_capacity(96) }
    }

    pub(crate) fn bytes(mut self, kind: u8, value: &[u8]) -> Self {
        match u8::try_from(value.len() + 2) {
            Ok(short) => self.params.extend_from_slice(&[kind, short]),
            Err(_) => {
                self.params.extend_from_slice(&[kind, 0]);
                self.params.extend_from_slice(&(value.len() as u32 + 6).to_be_bytes());
            }
        }
        self.params.extend_from_slice(value);
        self
    }

    pub(crate) fn u8(self, kind: u8, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    pub(crate) fn u32(self, kind: u8, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn u64(self, kind: u8, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn text(self, kind: u8, value: &str) -> Self {
        let mut with_nul = Vec::with_capacity(value.len() + 1);
        with_nul.extend_from_slice(value.as_bytes());
        with_nul.push(0);
        self.bytes(kind, &with_nul)
    }

    pub(crate) fn window(self, window: u32) -> Self {
        match u8::try_from(window) {
            Ok(narrow) => self.u8(par::WINDOW, narrow),
            Err(_) => self.u8(par::WINDOW, u8::MAX).u32(par::WIDE_WINDOW, window),
        }
    }

    /// Appends the frame to `out`.
    pub(crate) fn put(self, out: &mut Vec<u8>, tag: Option<[u8; 3]>, response: Option<Response>) {
        let mut body = Vec::with_capacity(8 + self.params.len());
        if self.version < 3 {
            let words = (3 + self.params.len()).div_ceil(4);
            let word = (u16::from(self.kind) << 12) | (words as u16 & 0x0fff);
            body.push(self.version);
            body.extend_from_slice(&word.to_be_bytes());
            body.extend_from_slice(&self.params);
            body.resize(words * 4, 0);
        } else {
            body.extend_from_slice(&[self.version, self.kind]);
            body.extend_from_slice(&(6 + self.params.len() as u32).to_be_bytes());
            body.extend_from_slice(&self.params);
        }
        let params = frame::response_params(tag, response);
        frame::put_frame(out, protocol::ASSURED_CTRL, &params, &body);
    }
}
