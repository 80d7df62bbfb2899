//! TLS to Postgres: which servers are taken, and what is said of the others.

use std::fs;
use std::path::PathBuf;

use tidemark::resilience::Recovery;
use tidemark::sink::conformance::{LANDING, PIPELINE, QUEUE, epoch, orders};
use tidemark::sink::postgres::{Outbox, PostgresConfig, SchemaAdmin, SslMode};
use tidemark::sink::{Sink, SinkError};

use crate::Database;
use crate::certificates::{Authority, Pair};
use crate::postgres::{Durability, PostgresServer};

/// `encrypted` must come by TLS, and `known` with a certificate too; `clear` is asked for its password as it is.
const ACCESS: &str = "
hostnossl all encrypted,known 127.0.0.1/32 reject
hostssl all known 127.0.0.1/32 trust clientcert=verify-ca
host all clear 127.0.0.1/32 password
host all hashed 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
";

async fn server(authority: &Authority, pair: &Pair) -> PostgresServer {
    let read = |path: &PathBuf| fs::read(path).unwrap();
    let files = [
        ("server.pem", read(&pair.certificate)),
        ("server.key", read(&pair.key)),
        ("authority.pem", read(&authority.certificate())),
        ("access.conf", ACCESS.as_bytes().to_vec()),
    ];
    let server = PostgresServer::start_with(Durability::Off, &files, |folder| {
        let file = |name: &str| folder.join(name).display().to_string();
        [
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", file("server.pem")),
            ("ssl_key_file", file("server.key")),
            ("ssl_ca_file", file("authority.pem")),
            ("hba_file", file("access.conf")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    })
    .await;
    let roles = "CREATE ROLE encrypted SUPERUSER LOGIN; CREATE ROLE known SUPERUSER LOGIN; \
                 CREATE ROLE clear SUPERUSER LOGIN PASSWORD 'hunter2'; \
                 CREATE ROLE hashed SUPERUSER LOGIN PASSWORD 'hunter2'";
    server.client().await.batch_execute(roles).await.unwrap();
    server
}

fn config(server: &PostgresServer, user: &str, mode: SslMode) -> PostgresConfig {
    let url = server.url().replace("postgres@", &format!("{user}@"));
    PostgresConfig { sslmode: Some(mode), ..PostgresConfig::from_url(url) }
}

/// What a first connection comes to.
async fn first(config: &PostgresConfig) -> Result<(), SinkError> {
    SchemaAdmin::new(config.clone(), PIPELINE).unwrap().apply_ods(&[]).await.map(drop)
}

/// The sentence of a refusal, which is for somebody who has to do something.
async fn refusal(config: &PostgresConfig) -> String {
    let error = first(config).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Hold, "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn every_connection_is_encrypted() {
    let authority = Authority::new();
    let pair = authority.issue("server", "DNS:db.example, IP:127.0.0.1");
    let database = Database { server: server(&authority, &pair).await };
    let mut config = config(&database.server, "encrypted", SslMode::VerifyFull);
    config.root_certificate = Some(authority.certificate());
    let mut sink = database.sink_at(config.clone(), QUEUE).await;
    sink.commit(&epoch(1).created(1, 1, "x").upserted(1, "x").build()).await.unwrap();
    assert_eq!(sink.resume().await.unwrap().offsets.count(), 1);
    assert_eq!(sink.bootstrap(&orders(), None).await.unwrap()[0].len(), 1);
    let outbox = Outbox::new(config, PIPELINE);
    let _turn = outbox.turn().await.unwrap().unwrap();
    let sql = "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'tidemark'";
    let row = database.server.client().await.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (2, true));
    assert_eq!(database.count(LANDING).await, 1);
}

#[tokio::test]
async fn a_server_is_taken_or_refused_as_sslmode_says() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.issue("server", "DNS:db.example");
    let server = server(&authority, &pair).await;
    let with = |mode: SslMode, root: Option<&Authority>| PostgresConfig {
        root_certificate: root.map(Authority::certificate),
        ..config(&server, "encrypted", mode)
    };
    for (mode, root) in [
        (SslMode::Prefer, None),
        (SslMode::Require, None),
        (SslMode::Require, Some(&authority)),
        (SslMode::VerifyCa, Some(&authority)),
    ] {
        first(&with(mode, root)).await.unwrap();
    }
    let name = refusal(&with(SslMode::VerifyFull, Some(&authority))).await;
    for part in ["\"db.example\"", "and not for 127.0.0.1", "subjectAltName", "verify-ca"] {
        assert!(name.contains(part), "{part} in {name}");
    }
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let unknown = refusal(&with(mode, Some(&other))).await;
        let path = other.certificate().display().to_string();
        for part in ["signed by none of the authorities in", &path, "root_certificate"] {
            assert!(unknown.contains(part), "{part} in {unknown}");
        }
    }
    let unknown = refusal(&with(SslMode::VerifyCa, None)).await;
    assert!(unknown.contains("this system's certificate store"), "{unknown}");
    let plain = refusal(&with(SslMode::Disable, None)).await;
    assert!(plain.contains("no encryption") && plain.contains("pg_hba.conf"), "{plain}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_if_tls_is_asked_for() {
    let server = PostgresServer::start(Durability::Off).await;
    for mode in [SslMode::Disable, SslMode::Prefer] {
        first(&config(&server, "postgres", mode)).await.unwrap();
    }
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let refused = refusal(&config(&server, "postgres", mode)).await;
        assert!(refused.contains("does not speak TLS"), "{refused}");
        assert!(refused.contains("postgresql.conf") && refused.contains("prefer"), "{refused}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_can_be_trusted_by_itself() {
    let authority = Authority::new();
    let pair = authority.self_signed("own", "IP:127.0.0.1");
    let server = server(&authority, &pair).await;
    let with = |mode: SslMode, root: PathBuf| PostgresConfig {
        root_certificate: Some(root),
        ..config(&server, "encrypted", mode)
    };
    first(&with(SslMode::VerifyCa, pair.certificate.clone())).await.unwrap();
    first(&with(SslMode::VerifyFull, pair.certificate.clone())).await.unwrap();
    refusal(&with(SslMode::VerifyCa, authority.certificate())).await;
    // Trusted, and for another name.
    let by_name = |config: PostgresConfig| PostgresConfig {
        url: None,
        host: Some("localhost".to_owned()),
        port: Some(server.port()),
        dbname: Some("postgres".to_owned()),
        user: Some("encrypted".to_owned()),
        ..config
    };
    first(&by_name(with(SslMode::VerifyCa, pair.certificate.clone()))).await.unwrap();
    let refused = refusal(&by_name(with(SslMode::VerifyFull, pair.certificate.clone()))).await;
    assert!(refused.contains("and not for localhost"), "{refused}");
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.issue("server", "IP:127.0.0.1");
    let server = server(&authority, &pair).await;
    let with = |client: Option<&Pair>| PostgresConfig {
        root_certificate: Some(authority.certificate()),
        client_certificate: client.map(|pair| pair.certificate.clone()),
        client_key: client.map(|pair| pair.key.clone()),
        ..config(&server, "known", SslMode::VerifyFull)
    };
    let known = authority.issue("known", "DNS:known");
    first(&with(Some(&known))).await.unwrap();
    let none = refusal(&with(None)).await;
    assert!(none.contains("valid client certificate"), "{none}");
    let stranger = refusal(&with(Some(&other.issue("known", "DNS:known")))).await;
    assert!(stranger.contains("ssl_ca_file"), "{stranger}");
    let mixed = Pair { certificate: known.certificate.clone(), key: pair.key.clone() };
    let mixed = refusal(&with(Some(&mixed))).await;
    assert!(mixed.contains("client_key") && mixed.contains("don't fit"), "{mixed}");
    let swapped = Pair { certificate: known.key.clone(), key: known.certificate.clone() };
    let swapped = refusal(&with(Some(&swapped))).await;
    assert!(swapped.contains("client_certificate") && swapped.contains("PEM"), "{swapped}");
    let missing = Pair { certificate: PathBuf::from("/nowhere.pem"), key: known.key.clone() };
    let missing = refusal(&with(Some(&missing))).await;
    assert!(missing.contains("/nowhere.pem can't be read"), "{missing}");
}

/// A server that goes by a name of elsewhere.
fn elsewhere(port: u16, user: &str, mode: SslMode, root: Option<&Authority>) -> PostgresConfig {
    let address = format!("host=db.example hostaddr=127.0.0.1 port={port} dbname=postgres");
    PostgresConfig {
        sslmode: Some(mode),
        root_certificate: root.map(Authority::certificate),
        ..PostgresConfig::from_url(format!("{address} user={user} password=hunter2"))
    }
}

#[tokio::test]
async fn a_password_goes_in_clear_text_only_to_a_server_that_is_known() {
    let authority = Authority::new();
    let pair = authority.issue("server", "DNS:db.example");
    let server = server(&authority, &pair).await;
    let port = server.port();
    for mode in [SslMode::Disable, SslMode::Prefer, SslMode::Require] {
        let refused = refusal(&elsewhere(port, "clear", mode, None)).await;
        for part in ["in clear text", "verify-full", "scram-sha-256"] {
            assert!(refused.contains(part), "{mode:?}: {part} in {refused}");
        }
        first(&elsewhere(port, "hashed", mode, None)).await.unwrap();
    }
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        first(&elsewhere(port, "clear", mode, Some(&authority))).await.unwrap();
    }
    let here = server.url().replace("postgres@", "clear:hunter2@");
    first(&PostgresConfig::from_url(here)).await.unwrap();
    let unsaid = elsewhere(port, "hashed", SslMode::Prefer, None);
    let unsaid = refusal(&PostgresConfig { sslmode: None, ..unsaid }).await;
    assert!(unsaid.contains("signed by none of the authorities"), "{unsaid}");
}

/// Speaks no TLS and asks for the password in clear text; what it heard.
async fn impostor(listener: tokio::net::TcpListener) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut heard = Vec::new();
    // The one that asks for TLS, and the one without.
    for _ in 0..2 {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut first = [0; 8];
        socket.read_exact(&mut first).await.unwrap();
        let asks_for_tls = first == [0, 0, 0, 8, 4, 210, 22, 47];
        heard.extend(first);
        let answer: &[u8] = if asks_for_tls { b"N" } else { b"R\0\0\0\x08\0\0\0\x03" };
        socket.write_all(answer).await.unwrap();
        // Until the client gives up.
        let _reset = socket.read_to_end(&mut heard).await.is_err();
    }
    heard
}

#[tokio::test]
async fn who_answers_in_the_place_of_the_server_does_not_hear_the_password() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let listening = tokio::spawn(impostor(listener));
    let refused = refusal(&elsewhere(port, "clear", SslMode::Prefer, None)).await;
    assert!(refused.contains("in clear text"), "{refused}");
    let heard = listening.await.unwrap();
    assert!(heard.windows(5).any(|part| part == b"clear"), "the user's name came");
    assert!(!heard.windows(7).any(|part| part == b"hunter2"));
}
