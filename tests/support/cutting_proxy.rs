//! A TCP proxy before Postgres that can cut a connection at the worst moment: COMMIT has reached
//! the server, and its answer reaches nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct CuttingProxy {
    pub(crate) port: u16,
    /// Whether the next COMMIT is cut off.
    is_armed: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
}

impl CuttingProxy {
    /// Forwards to a port of the loopback interface until its runtime ends.
    pub(crate) async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (is_armed, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let proxy = Self { port, is_armed: Arc::clone(&is_armed), cuts: Arc::clone(&cuts) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (is_armed, cuts) = (Arc::clone(&is_armed), Arc::clone(&cuts));
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", server_port)).await;
                    if let Ok(server) = server
                        && forward(client, server, &is_armed).await
                    {
                        cuts.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        proxy
    }

    pub(crate) fn arm(&self) {
        self.is_armed.store(true, Ordering::SeqCst);
    }

    /// How often a COMMIT was cut off.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// Ends when either side does; `true` if it cut the connection after a COMMIT.
async fn forward(client: TcpStream, server: TcpStream, is_armed: &AtomicBool) -> bool {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers =
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 1 << 16];
    let mut was_cut = false;
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        let bytes = &buffer[..count];
        // A simple query: 'Q', its length, the text, a zero.
        let is_commit = bytes.windows(12).any(|part| part == b"Q\0\0\0\x0bCOMMIT\0");
        was_cut = is_commit && is_armed.swap(false, Ordering::SeqCst);
        if was_cut {
            // First nobody listens any more, then the server gets it.
            answers.abort();
        }
        if to_server.write_all(bytes).await.is_err() || was_cut {
            break;
        }
    }
    answers.abort();
    was_cut
}
