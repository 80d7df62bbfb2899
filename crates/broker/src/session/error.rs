//! Why a connection ended.

use std::io;
use std::time::Duration;

use crate::codec::CodecError;
use crate::spool::SpoolError;

/// All but `Closed` are worth a look at the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("closed by the client")]
    Closed,
    #[error("closed for another connection of the same client name")]
    Replaced,
    #[error("nothing heard from the client for {0:?}")]
    Silent(Duration),
    #[error("network error")]
    Network(#[source] io::Error),
    #[error("client sent something that is not understood")]
    Codec(#[from] CodecError),
    #[error("login was refused")]
    Refused,
    #[error("stored message cannot be read")]
    Spool(#[from] SpoolError),
}
