//! Serves HTTP to whoever can reach the port, without giving them more than a few connections' worth of the process.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// What one client, or many, may take of the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Open at the same time; a connection above it closes the oldest one.
    pub(super) connections: usize,
    /// From the start of a connection, or from the last answer, to the end of a request's header.
    pub(super) header: Duration,
    /// From accepting a connection to closing it.
    pub(super) connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            header: Duration::from_secs(5),
            connection: Duration::from_secs(60),
        }
    }
}

/// Answers with `router` until `shutdown`; then open answers have a second to end.
///
/// # Errors
/// If the listener breaks.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mut open = JoinSet::new();
    let mut oldest = std::collections::VecDeque::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // Out of descriptors, or a client that has gone: neither ends the page.
            Err(error) => {
                debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        oldest.retain(|handle: &tokio::task::AbortHandle| !handle.is_finished());
        // Whoever holds connections without asking must not keep probes out.
        while oldest.len() >= limits.connections
            && let Some(handle) = oldest.pop_front()
        {
            handle.abort();
        }
        oldest.push_back(open.spawn(answer(stream, router.clone(), limits)));
    }
    drop(listener);
    let ended = async { while open.join_next().await.is_some() {} };
    let _in_time = tokio::time::timeout(Duration::from_secs(1), ended).await;
    Ok(())
}

async fn answer(stream: TcpStream, router: Router, limits: Limits) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(limits.connection, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a client of the HTTP page was cut off"),
        Err(_) => debug!("a client of the HTTP page was cut off: its time is over"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(20);

    async fn started(limits: Limits) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/live", get(|| async { "live\n" }));
        tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        (address, shutdown)
    }

    async fn ask(address: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /live HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn idle_connections_do_not_keep_a_probe_out() {
        let limits = Limits { header: Duration::from_secs(600), ..Limits::default() };
        let (address, _shutdown) = started(limits).await;
        let mut idle = Vec::new();
        for _ in 0..300 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(ask(address).await.ends_with("live\n"));
        let mut byte = [0];
        // The first one was closed for a later one.
        let closed = timeout(SOON, idle[0].read(&mut byte)).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }

    #[tokio::test]
    async fn a_header_that_never_ends_is_cut_off() {
        let limits = Limits { header: Duration::from_millis(50), ..Limits::default() };
        let (address, _shutdown) = started(limits).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /live HTTP/1.1\r\nHost: he").await.unwrap();
        let mut rest = Vec::new();
        timeout(SOON, slow.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&rest).contains("live"));
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_does_not_hold_a_connection_for_ever() {
        let limits = Limits { connection: Duration::from_millis(50), ..Limits::default() };
        let (address, _shutdown) = started(limits).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        let closed = timeout(SOON, silent.read(&mut byte)).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }

    #[tokio::test]
    async fn shutdown_ends_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let served = serve(listener, Router::new(), Limits::default(), shutdown);
        timeout(SOON, served).await.unwrap().unwrap();
    }
}
