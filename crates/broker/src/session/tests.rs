//! Logins and frames over a real socket.

use tokio::net::TcpListener;

use super::*;
use crate::codec::assured::{Message, kind, par};
use crate::config::Config;
use crate::core::{Core, Hub};
use crate::spool::Spool;

/// A login without any parameter.
const LOGIN: &[u8] = b"\x03\x8c\0\x01\0\0\0\x0c\0\0\0\x12\x01\0\0\0\0\x06";

fn context(dir: &std::path::Path) -> SessionContext {
    let config = Config { data_dir: dir.to_owned(), ..Config::default() };
    let (spool, recovered) = Spool::open(dir, config.segment_size).unwrap();
    let core = Core::new(&config, spool, recovered).unwrap();
    SessionContext::new(Arc::new(Hub::new(core)), config)
}

fn create_queue(name: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    Message::new(3, kind::CREATE)
        .text(par::QUEUE, name)
        .u8(par::DURABILITY, 1)
        .put(&mut frame, None, None);
    frame
}

/// All that the client said is there, and so is the reset of its connection: nothing can be
/// written to it any more. Which the session notices first is left to chance, so it runs often.
#[tokio::test]
async fn what_a_client_said_before_it_left_counts() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for number in 0..40 {
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let name = format!("q{number}");
        client.write_all(&[LOGIN, &create_queue(&name)].concat()).await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        run(stream, peer, &context).await;
        let core = context.hub.lock();
        assert!(core.queue_depths().any(|(queue, _)| queue == name), "{name} was not created");
        assert_eq!(core.connection_count(), 0);
    }
}
