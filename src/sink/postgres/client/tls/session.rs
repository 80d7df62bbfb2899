//! The stream of a session, encrypted or not, with a guard over its login.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::login_guard::{ClearTextAsked, LoginGuard};
use super::tls_error::TlsError;

/// What the client library reads from and writes to.
pub(crate) struct Session {
    pub(super) stream: Stream,
    pub(super) guard: LoginGuard,
}

pub(super) enum Stream {
    Encrypted(Box<tokio_rustls::client::TlsStream<Socket>>),
    Plain(Socket),
}

/// Calls a method of the stream that is there.
macro_rules! on_stream {
    ($session:ident, $method:ident $(, $argument:expr)*) => {
        match &mut $session.stream {
            Stream::Encrypted(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            Stream::Plain(socket) => Pin::new(socket).$method($($argument),*),
        }
    };
}

impl TlsStream for Session {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(on_stream!(self, poll_read, cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        let read = self.guard.read(read);
        Poll::Ready(read.map_err(|ClearTextAsked| io::Error::other(TlsError::ClearTextPassword)))
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write, cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown, cx)
    }
}
