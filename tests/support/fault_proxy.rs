//! A TCP proxy before Postgres or an API, that does one thing wrong at a chosen message.
//!
//! It reads the messages of Postgres clients, so that a step of an epoch is the message that does it: the
//! Bind of a statement counts, wherever it was prepared. Of other protocols each packet is a message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What happens to the connection at the chosen message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is closed, and the message reaches nobody.
    Cut,
    /// The message is forwarded, and then the connection is closed: the answer reaches nobody.
    CutAfter,
    /// As `Cut`, by a reset.
    Reset,
    /// It stays open, and no more bytes pass, in either direction.
    BlackHole,
    /// This message and all later ones take long.
    Delay(Duration),
    /// The message waits until the test says [`FaultProxy::go_on`].
    Pause,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A simple query that starts so.
    Query(&'static str),
    /// A statement with all of these parts is executed.
    Statement(&'static [&'static str]),
    /// So many messages of COPY data, from 1.
    CopyData(usize),
    /// Of any protocol: a packet that contains it.
    Packet(&'static str),
}

struct Armed {
    step: Step,
    fault: Fault,
}

#[derive(Default)]
struct Shared {
    armed: Mutex<Option<Armed>>,
    fired: Mutex<usize>,
    paused: Notify,
    go_on: Notify,
}

/// Forwards to a port of the loopback interface until its runtime ends.
pub(crate) struct FaultProxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl FaultProxy {
    pub(crate) async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::<Shared>::default();
        let proxy = Self { port, shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await {
                        forward(client, server, &shared).await;
                    }
                });
            }
        });
        proxy
    }

    /// The next message that is this step meets the fault.
    pub(crate) fn arm(&self, step: Step, fault: Fault) {
        *self.shared.armed.lock().expect("no panic") = Some(Armed { step, fault });
    }

    /// How many faults there were.
    pub(crate) fn fired(&self) -> usize {
        *self.shared.fired.lock().expect("no panic")
    }

    /// Waits until a message waits.
    pub(crate) async fn paused(&self) {
        self.shared.paused.notified().await;
    }

    /// Lets the message pass that waits.
    pub(crate) fn go_on(&self) {
        self.shared.go_on.notify_one();
    }
}

impl Shared {
    /// The fault that this message meets.
    fn meets(&self, message: &Message, reader: &mut Reader) -> Option<Fault> {
        let mut armed = self.armed.lock().expect("no panic");
        let fault = armed.as_ref().filter(|armed| reader.is(message, &armed.step))?.fault;
        *armed = None;
        *self.fired.lock().expect("no panic") += 1;
        Some(fault)
    }
}

/// Ends when either side does.
async fn forward(client: TcpStream, server: TcpStream, shared: &Shared) {
    let (from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let is_mute = Arc::new(AtomicBool::new(false));
    let answers = tokio::spawn(copy(from_server, to_client, Arc::clone(&is_mute)));
    let mut reader = Reader::default();
    let mut from_client = from_client;
    let mut delay = Duration::ZERO;
    while let Some(message) = reader.next(&mut from_client).await {
        let fault = shared.meets(&message, &mut reader);
        match fault {
            None | Some(Fault::CutAfter) => {}
            Some(Fault::Cut) => break,
            Some(Fault::Reset) => {
                reset(&from_client, &to_server);
                break;
            }
            Some(Fault::BlackHole) => {
                is_mute.store(true, Ordering::SeqCst);
                // The client gives up by itself.
                while reader.next(&mut from_client).await.is_some() {}
                break;
            }
            Some(Fault::Delay(time)) => delay = time,
            Some(Fault::Pause) => {
                shared.paused.notify_one();
                shared.go_on.notified().await;
            }
        }
        // sleep: that is the fault
        tokio::time::sleep(delay).await;
        if fault == Some(Fault::CutAfter) {
            // First nobody listens any more, then the server gets it.
            answers.abort();
        }
        if to_server.write_all(&message.bytes).await.is_err() || fault == Some(Fault::CutAfter) {
            break;
        }
    }
    answers.abort();
}

fn reset(client: &OwnedReadHalf, server: &OwnedWriteHalf) {
    client.as_ref().set_zero_linger().expect("a socket");
    server.as_ref().set_zero_linger().expect("a socket");
}

/// Until either side ends; while it `is_mute` the other side hears nothing, not even that this one has ended.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_mute: Arc<AtomicBool>) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !is_mute.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    if is_mute.load(Ordering::SeqCst) {
        // The client gives up by itself, and then this task is ended.
        std::future::pending::<()>().await;
    }
}

struct Message {
    /// Of Postgres, its letter; 0 for the first ones and for other protocols.
    letter: u8,
    bytes: Vec<u8>,
}

/// Cuts what a client sends into messages, and knows its prepared statements.
#[derive(Default)]
struct Reader {
    statements: HashMap<Vec<u8>, Vec<u8>>,
    copied: usize,
    has_begun: bool,
    is_other: bool,
}

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

impl Reader {
    async fn next(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
        if self.is_other {
            return self.packet(from, Vec::new()).await;
        }
        let mut bytes = vec![0; if self.has_begun { 5 } else { 4 }];
        from.read_exact(&mut bytes).await.ok()?;
        if !self.has_begun && bytes[0] != 0 {
            // The first message of Postgres begins with its length, which is small.
            self.is_other = true;
            return self.packet(from, bytes).await;
        }
        let letter = if self.has_begun { bytes[0] } else { 0 };
        let length = &bytes[bytes.len() - 4..];
        let length = u32::from_be_bytes(length.try_into().expect("4 bytes")) as usize;
        let start = bytes.len();
        bytes.resize(start + length.checked_sub(4)?, 0);
        from.read_exact(&mut bytes[start..]).await.ok()?;
        self.has_begun |= bytes != SSL_REQUEST;
        if letter == b'P' {
            let mut parts = bytes[5..].split(|byte| *byte == 0);
            let (name, text) = (parts.next()?.to_vec(), parts.next()?.to_vec());
            self.statements.insert(name, text);
        }
        Some(Message { letter, bytes })
    }

    async fn packet(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        mut bytes: Vec<u8>,
    ) -> Option<Message> {
        let start = bytes.len();
        bytes.resize(start + (1 << 16), 0);
        let count = from.read(&mut bytes[start..]).await.ok().filter(|count| *count > 0)?;
        bytes.truncate(start + count);
        Some(Message { letter: 0, bytes })
    }

    fn is(&mut self, message: &Message, step: &Step) -> bool {
        let contains = |text: &[u8], part: &str| {
            text.windows(part.len()).any(|window| window == part.as_bytes())
        };
        match step {
            Step::Query(start) => {
                message.letter == b'Q' && message.bytes[5..].starts_with(start.as_bytes())
            }
            Step::Statement(parts) if message.letter == b'B' => {
                // Portal, then statement.
                let name = message.bytes[5..].split(|byte| *byte == 0).nth(1).unwrap_or_default();
                let text = self.statements.get(name);
                text.is_some_and(|text| parts.iter().all(|part| contains(text, part)))
            }
            Step::CopyData(number) => {
                self.copied += usize::from(message.letter == b'd');
                message.letter == b'd' && self.copied == *number
            }
            Step::Packet(part) => contains(&message.bytes, part),
            Step::Statement(_) => false,
        }
    }
}
