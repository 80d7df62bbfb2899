//! One connection: login, then reading and writing side by side until either ends.

mod context;
mod deliver;
mod error;
mod login;
mod requests;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::codec::frame::{self, Decoded};
use super::core::Output;
pub(crate) use context::SessionContext;
use error::SessionError;

/// Bytes asked from the socket at a time.
const READ_CHUNK: usize = 256 * 1024;
/// Buffers that grew beyond this for one large message are given back.
const MAX_IDLE_BUFFER: usize = 2 << 20;

/// Serves one connection to its end.
pub(crate) async fn run(mut stream: TcpStream, peer: SocketAddr, context: &SessionContext) {
    let notify = Arc::new(Notify::new());
    let mut buffer = BytesMut::with_capacity(READ_CHUNK);
    let accepted = login::run(&mut stream, &mut buffer, context, &notify).await;
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(error) => return log_end(&error, "", peer),
    };
    info!(client = %accepted.name, user = %accepted.user, %peer, "client connected");
    // However the task ends, the connection's flows go back.
    let _registered = Registered { context, connection: accepted.connection };
    let (reader, writer) = stream.split();
    let session = Session { context, connection: accepted.connection, notify };
    let mut reading = pin!(session.read_loop(reader, buffer, accepted.silence_limit));
    let ended = tokio::select! {
        ended = reading.as_mut() => ended,
        ended = session.write_loop(writer) => match ended {
            // Nothing can be written any more, but what the client said before it left counts:
            // its last acknowledgements are often still unread.
            Err(SessionError::Closed) => reading.await,
            other => other,
        },
    };
    if let Err(error) = ended {
        log_end(&error, &accepted.name, peer);
    }
}

fn log_end(error: &SessionError, client: &str, peer: SocketAddr) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match error {
        SessionError::Closed => info!(client, %peer, "client disconnected"),
        SessionError::Replaced | SessionError::Refused | SessionError::Network(_) => {
            info!(client, %peer, reason = %error, cause, "connection ended");
        }
        SessionError::Silent(_) | SessionError::Codec(_) => {
            warn!(client, %peer, reason = %error, cause, "connection closed");
        }
        SessionError::Spool(_) => {
            tracing::error!(client, %peer, reason = %error, cause, "connection closed");
        }
    }
}

struct Registered<'a> {
    context: &'a SessionContext,
    connection: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let hub = &self.context.hub;
        let mut core = hub.lock();
        core.disconnect(self.connection);
        hub.unlock(core);
    }
}

struct Session<'a> {
    context: &'a SessionContext,
    connection: u64,
    notify: Arc<Notify>,
}

impl Session<'_> {
    async fn read_loop(
        &self,
        mut reader: ReadHalf<'_>,
        mut buffer: BytesMut,
        silence_limit: Duration,
    ) -> Result<(), SessionError> {
        let mut skip: u64 = 0;
        loop {
            let needed = self.handle_buffered(&mut buffer, &mut skip)?;
            self.wait_until_readable(silence_limit).await?;
            if buffer.is_empty() && buffer.capacity() > MAX_IDLE_BUFFER {
                buffer = BytesMut::new();
            }
            buffer.reserve(needed.max(READ_CHUNK));
            let read = timeout(silence_limit, reader.read_buf(&mut buffer)).await;
            match read.map_err(|_| SessionError::Silent(silence_limit))? {
                Ok(0) => return Err(SessionError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(SessionError::Closed);
                }
                Err(error) => return Err(SessionError::Network(error)),
            }
        }
    }

    /// Handles all whole frames under one lock; returns how many bytes the next one lacks.
    fn handle_buffered(
        &self,
        buffer: &mut BytesMut,
        skip: &mut u64,
    ) -> Result<usize, SessionError> {
        let hub = &self.context.hub;
        let mut core = hub.lock();
        if !core.is_connected(self.connection) {
            return Err(SessionError::Replaced);
        }
        let outcome = loop {
            let skipped = (*skip).min(buffer.len() as u64);
            buffer.advance(skipped as usize);
            *skip -= skipped;
            match frame::decode(buffer, self.context.max_frame()) {
                Ok(Decoded::Frame { frame, consumed, skip: more }) => {
                    if let Err(error) = requests::handle(&mut core, self.connection, &frame) {
                        break Err(error.into());
                    }
                    *skip = more;
                    buffer.advance(consumed);
                }
                Ok(Decoded::Incomplete { needed }) => break Ok(needed.saturating_sub(buffer.len())),
                Err(error) => break Err(error.into()),
            }
        };
        hub.unlock(core);
        outcome
    }

    /// Back-pressure: a publisher is not read while the disk is behind, and no client while it
    /// does not take its answers.
    async fn wait_until_readable(&self, limit: Duration) -> Result<(), SessionError> {
        loop {
            // Registered before the check, so that a wake-up in between is not missed.
            let space = self.context.hub.space.notified();
            if self.context.hub.lock().may_read(self.connection) {
                return Ok(());
            }
            timeout(limit, space).await.map_err(|_| SessionError::Silent(limit))?;
        }
    }

    async fn write_loop(&self, mut writer: WriteHalf<'_>) -> Result<(), SessionError> {
        let mut output = Output::default();
        loop {
            output.bytes.clear();
            output.deliveries.clear();
            let hub = &self.context.hub;
            if !hub.lock().take_output(self.connection, &mut output) {
                return Err(SessionError::Replaced);
            }
            if output.bytes.is_empty() && output.deliveries.is_empty() {
                if output.bytes.capacity() > MAX_IDLE_BUFFER {
                    output.bytes = Vec::new();
                }
                self.notify.notified().await;
                continue;
            }
            deliver::encode(&output.deliveries, &mut output.bytes)?;
            writer.write_all(&output.bytes).await.map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => SessionError::Closed,
                _ => SessionError::Network(error),
            })?;
            debug!(connection = self.connection, bytes = output.bytes.len(), "sent");
            // The reader may have stopped because of unsent answers.
            hub.space.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
