//! Subscription requests (`SMP`): of the connection itself or of a queue.

use super::{CodecError, text};

const RESPONSE_REQUIRED: u8 = 0x08;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    AddDirect { topic: &'a str },
    RemoveDirect { topic: &'a str },
    AddToQueue { queue: &'a str, topic: &'a str },
    RemoveFromQueue { queue: &'a str, topic: &'a str },
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) wants_response: bool,
    pub(crate) change: Change<'a>,
}

impl<'a> Request<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, CodecError> {
        let Some((&[kind, _, _, _, _, flags], rest)) = body.split_first_chunk::<6>() else {
            return Err(CodecError::Truncated { what: "subscription request" });
        };
        let change = match kind & 0x7f {
            0 => Change::AddDirect { topic: text(rest, "topic")? },
            1 => Change::RemoveDirect { topic: text(rest, "topic")? },
            kind @ (2 | 3) => {
                let (queue, rest) = counted(rest)?;
                let (topic, _) = counted(rest)?;
                if kind == 2 {
                    Change::AddToQueue { queue, topic }
                } else {
                    Change::RemoveFromQueue { queue, topic }
                }
            }
            _ => Change::Unknown,
        };
        Ok(Self { wants_response: flags & RESPONSE_REQUIRED != 0, change })
    }
}

fn counted(bytes: &[u8]) -> Result<(&str, &[u8]), CodecError> {
    let short = CodecError::Truncated { what: "subscription text" };
    let (length, rest) = bytes.split_first().ok_or(short)?;
    let (value, rest) = rest
        .split_at_checked(usize::from(*length))
        .ok_or(CodecError::Truncated { what: "subscription text" })?;
    Ok((text(value, "subscription text")?, rest))
}
