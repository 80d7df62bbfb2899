//! Start, stop and restart of the broker.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::codec::assured::{Message, kind, par};
use crate::{QueueConfig, SpoolError};

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn config(dir: &std::path::Path) -> Config {
    Config { data_dir: dir.to_owned(), ..Config::default() }
}

/// A login without any parameter.
const LOGIN: &[u8] = b"\x03\x8c\0\x01\0\0\0\x0c\0\0\0\x12\x01\0\0\0\0\x06";

#[tokio::test]
async fn it_serves_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let broker = tokio::spawn(run(config(dir.path()), listener, shutdown.clone()));
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(LOGIN).await.unwrap();
    let mut answer = [0; 26];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..2], [3, 0x0c]);
    assert_eq!(answer[12..20], *b"\x08\x08\0\0\0\xc8OK");
    shutdown.cancel();
    broker.await.unwrap().unwrap();
    let closed = async { while client.read(&mut answer).await.unwrap_or(0) > 0 {} };
    tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap();
}

/// A client that has logged in, and whose session has something to do for a while.
async fn busy_client(address: SocketAddr) -> JoinHandle<std::io::Result<()>> {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(LOGIN).await.unwrap();
    client.read_exact(&mut [0; 26]).await.unwrap();
    // For a flow that is gone, which needs no answer.
    let mut acknowledgements = Vec::new();
    for _ in 0..10_000 {
        Message::new(3, kind::ACK).u32(par::FLOW_ID, 1).put(&mut acknowledgements, None, None);
    }
    tokio::spawn(async move { client.write_all(&acknowledgements).await })
}

/// Several worker threads, so that sessions are at work while the broker ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn its_directory_is_free_as_soon_as_it_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..10 {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let broker = tokio::spawn(run(config(dir.path()), listener, shutdown.clone()));
        let clients = [busy_client(address).await, busy_client(address).await];
        shutdown.cancel();
        broker.await.unwrap().unwrap();
        Spool::open(dir.path(), 1 << 20).unwrap();
        for client in clients {
            // Whether all of it went out before the end is left to chance.
            drop(client.await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_directory_in_use_and_a_changed_queue_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let queue = |partitions| QueueConfig {
        name: "q".to_owned(),
        topics: vec!["t".to_owned()],
        partitions,
        ..QueueConfig::default()
    };
    let with_queue = |partitions| Config { queues: vec![queue(partitions)], ..config(dir.path()) };
    let stopped = CancellationToken::new();
    stopped.cancel();
    run(with_queue(0), listener().await, stopped.clone()).await.unwrap();
    let changed = run(with_queue(4), listener().await, stopped.clone()).await;
    assert!(matches!(changed, Err(BrokerError::QueueMismatch { queue }) if queue == "q"));

    let _other = Spool::open(dir.path(), 1 << 20).unwrap();
    let in_use = run(with_queue(0), listener().await, stopped).await;
    assert!(matches!(in_use, Err(BrokerError::Spool(SpoolError::InUse { .. }))));
}

#[tokio::test]
async fn a_subscription_with_an_empty_level_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let queue = QueueConfig {
        name: "q".to_owned(),
        topics: vec!["a//b".to_owned()],
        ..QueueConfig::default()
    };
    let config = Config { queues: vec![queue], ..config(dir.path()) };
    let refused = run(config, listener().await, CancellationToken::new()).await;
    assert!(matches!(refused, Err(BrokerError::BadTopic { topic, .. }) if topic == "a//b"));
}
