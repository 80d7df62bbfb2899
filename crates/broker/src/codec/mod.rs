//! The wire format: bytes to requests and answers to bytes, without any state.
//!
//! Everything here works on slices that the session has already bounded; a malformed frame is a
//! [`CodecError`] and never a panic. All integers are big-endian.

pub(crate) mod assured;
pub(crate) mod client_ctrl;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod sdt;
pub(crate) mod smp;
#[cfg(test)]
mod tests;

/// Why a frame cannot be understood. The connection that sent it is closed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum CodecError {
    #[error("SMF version {found} is not supported, only version 3")]
    Version { found: u8 },
    #[error("impossible frame lengths: header {header}, total {total}")]
    FrameLength { header: usize, total: usize },
    #[error("{what} ends too early")]
    Truncated { what: &'static str },
    #[error("{what} is missing")]
    Missing { what: &'static str },
    #[error("{what} is not valid text")]
    Text { what: &'static str },
}

/// A NUL-terminated text as the protocol counts it: with its NUL.
pub(crate) fn text<'a>(value: &'a [u8], what: &'static str) -> Result<&'a str, CodecError> {
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(value).map_err(|_| CodecError::Text { what })
}
