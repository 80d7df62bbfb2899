//! The SMF frame: a 12-byte header, a list of parameters and a body.

use super::CodecError;

pub(crate) const HEADER_LEN: usize = 12;
/// More parameter bytes than this in one frame is no message that a client library would build.
pub(crate) const MAX_HEADER_LEN: usize = 64 * 1024;

pub(crate) mod protocol {
    pub(crate) const ASSURED_CTRL: u8 = 0x09;
    pub(crate) const KEEP_ALIVE: u8 = 0x0b;
    pub(crate) const CLIENT_CTRL: u8 = 0x0c;
    pub(crate) const MESSAGE: u8 = 0x0d;
    pub(crate) const SMP: u8 = 0x0f;
}

/// "Assured delivery" flag of header byte 0.
pub(crate) const FLAG_ADF: u8 = 0x10;
const VERSION: u8 = 3;

/// One frame, borrowed from the read buffer.
///
/// `body` is empty for a frame that is longer than the limit: its body is skipped on the wire and
/// never held in memory, so that the request can still be refused by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) is_oversize: bool,
}

impl<'a> Frame<'a> {
    pub(crate) fn flags(&self) -> u8 {
        self.header[0]
    }

    pub(crate) fn protocol(&self) -> u8 {
        self.header[1] & 0x3f
    }

    pub(crate) fn is_assured(&self) -> bool {
        self.flags() & FLAG_ADF != 0
    }

    pub(crate) fn params(&self) -> Params<'a> {
        Params { rest: &self.header[HEADER_LEN..] }
    }

    /// The tag that a response must repeat.
    pub(crate) fn correlation_tag(&self) -> Result<Option<[u8; 3]>, CodecError> {
        for param in self.params() {
            if let Param { kind: ParamKind::Light(0), value: &[a, b, c], .. } = param? {
                return Ok(Some([a, b, c]));
            }
        }
        Ok(None)
    }
}

/// Outcome of looking for a frame at the front of a buffer.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    /// `consumed` bytes of the buffer are used; `skip` more have to be thrown away as they arrive.
    Frame { frame: Frame<'a>, consumed: usize, skip: u64 },
    /// At least this many bytes are needed in total before the next try.
    Incomplete { needed: usize },
}

/// Finds the frame at the front of `buf`. Lengths are checked before anybody allocates for them.
///
/// # Errors
/// A header that is not SMF version 3 or whose lengths contradict each other.
pub(crate) fn decode(buf: &[u8], max_frame: usize) -> Result<Decoded<'_>, CodecError> {
    let Some((head, _)) = buf.split_first_chunk::<HEADER_LEN>() else {
        return Ok(Decoded::Incomplete { needed: HEADER_LEN });
    };
    if head[0] & 0x07 != VERSION {
        return Err(CodecError::Version { found: head[0] & 0x07 });
    }
    let header_len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    let total = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
    if !(HEADER_LEN..=MAX_HEADER_LEN).contains(&header_len) || total < header_len {
        return Err(CodecError::FrameLength { header: header_len, total });
    }
    if total > max_frame {
        if buf.len() < header_len {
            return Ok(Decoded::Incomplete { needed: header_len });
        }
        let frame = Frame { header: &buf[..header_len], body: &[], is_oversize: true };
        let skip = (total - header_len) as u64;
        return Ok(Decoded::Frame { frame, consumed: header_len, skip });
    }
    if buf.len() < total {
        return Ok(Decoded::Incomplete { needed: total });
    }
    let (header, body) = buf[..total].split_at(header_len);
    Ok(Decoded::Frame {
        frame: Frame { header, body, is_oversize: false },
        consumed: total,
        skip: 0,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParamKind {
    /// Short form: type 0..7, value of at most 3 bytes.
    Light(u8),
    Standard(u8),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Param<'a> {
    pub(crate) kind: ParamKind,
    pub(crate) value: &'a [u8],
    /// The whole parameter as it came, with its unknown-handling bits.
    pub(crate) raw: &'a [u8],
}

#[derive(Debug, Clone)]
pub(crate) struct Params<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Params<'a> {
    type Item = Result<Param<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.rest.first()?;
        let is_light = first & 0x20 != 0;
        if !is_light && first & 0x1f == 0 {
            self.rest = &[];
            return None;
        }
        match split_param(self.rest, first, is_light) {
            Some((param, rest)) => {
                self.rest = rest;
                Some(Ok(param))
            }
            None => {
                self.rest = &[];
                Some(Err(CodecError::Truncated { what: "frame parameter" }))
            }
        }
    }
}

fn split_param(bytes: &[u8], first: u8, is_light: bool) -> Option<(Param<'_>, &[u8])> {
    let (kind, prefix, end) = if is_light {
        (ParamKind::Light((first >> 2) & 0x07), 1, 1 + usize::from(first & 0x03))
    } else {
        let kind = ParamKind::Standard(first & 0x1f);
        match *bytes.get(1)? {
            0 => {
                let long: [u8; 4] = bytes.get(2..6)?.try_into().ok()?;
                (kind, 6, u32::from_be_bytes(long) as usize)
            }
            short => (kind, 2, usize::from(short)),
        }
    };
    if end < prefix || end > bytes.len() {
        return None;
    }
    let (raw, rest) = bytes.split_at(end);
    Some((Param { kind, value: &raw[prefix..], raw }, rest))
}

/// Appends one control frame; `params` are complete frame parameters.
pub(crate) fn put_frame(out: &mut Vec<u8>, protocol: u8, params: &[u8], body: &[u8]) {
    let header_len = HEADER_LEN + params.len();
    out.extend_from_slice(&[VERSION, protocol, 0, 1]);
    out.extend_from_slice(&(header_len as u32).to_be_bytes());
    out.extend_from_slice(&((header_len + body.len()) as u32).to_be_bytes());
    out.extend_from_slice(params);
    out.extend_from_slice(body);
}

/// What the broker answers: the code decides, the text is matched by the client libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) code: u32,
    pub(crate) text: &'static str,
}

impl Response {
    pub(crate) const OK: Self = Self { code: 200, text: "OK" };

    pub(crate) const fn new(code: u32, text: &'static str) -> Self {
        Self { code, text }
    }
}

/// The frame parameters of a response: the request's tag and the outcome.
pub(crate) fn response_params(tag: Option<[u8; 3]>, response: Option<Response>) -> Vec<u8> {
    let mut params = Vec::with_capacity(32);
    if let Some([a, b, c]) = tag {
        params.extend_from_slice(&[0x23, a, b, c]);
    }
    if let Some(Response { code, text }) = response {
        // The short form ends at 255; no text of this broker comes near it.
        let text = &text.as_bytes()[..text.len().min(200)];
        params.extend_from_slice(&[0x08, 6 + text.len() as u8]);
        params.extend_from_slice(&code.to_be_bytes());
        params.extend_from_slice(text);
    }
    params
}
