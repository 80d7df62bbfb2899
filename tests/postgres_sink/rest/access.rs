//! How requests get to an API: credentials, TLS and proxies, against servers in this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::serve::Listener;
use tidemark::sink::conformance::{KEYED, QUEUE, epoch};
use tidemark::telemetry::Condition;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::{Authority, Pair};
use crate::postgres::{Durability, PostgresServer};
use crate::rest::{RestStage, deliver, posted};

/// What came to the API, and which requests it takes.
#[derive(Default)]
struct Seen {
    requests: Vec<(Uri, HeaderMap, Bytes)>,
    /// The `Authorization` or `X-Api-Key` without which it answers 401.
    wants: Option<String>,
    tokens: usize,
}

type Shared = Arc<Mutex<Seen>>;

async fn take(State(seen): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut seen = seen.lock().unwrap();
    if uri.path() == "/token" {
        seen.tokens += 1;
        seen.wants = Some(format!("Bearer token {}", seen.tokens));
        let token = format!("token {}", seen.tokens);
        seen.requests.push((uri, headers, body));
        return Json(serde_json::json!({"access_token": token, "expires_in": 3600}))
            .into_response();
    }
    let shown = ["authorization", "x-api-key"].iter().find_map(|name| headers.get(*name));
    let shown = shown.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let is_known = seen.wants.is_none() || seen.wants == shown;
    seen.requests.push((uri, headers, body));
    if is_known { StatusCode::CREATED } else { StatusCode::UNAUTHORIZED }.into_response()
}

/// A plain listener, or one that makes TLS sessions; strangers who don't come to a session are dropped.
struct Door {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Door {
    type Io = tokio_rustls::server::TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(session) = self.tls.accept(stream).await {
                return (session, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn acceptor(pair: &Pair) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&pair.certificate).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// An API that answers whatever path and host it is asked for; its port and what it saw.
async fn api(tls: Option<&Pair>) -> (u16, Shared) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Shared::default();
    let router = Router::new().fallback(take).with_state(Arc::clone(&seen));
    match tls.map(acceptor) {
        None => drop(tokio::spawn(async move { axum::serve(listener, router).await })),
        Some(tls) => {
            let door = Door { listener, tls };
            drop(tokio::spawn(async move { axum::serve(door, router).await }));
        }
    }
    (port, seen)
}

/// A proxy that connects whoever asks to one port, and notes for which host.
async fn tunnels_to(port: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let mut line = String::new();
                client.read_line(&mut line).await.unwrap();
                noted.lock().unwrap().push(line.trim().to_owned());
                while line != "\r\n" {
                    line.clear();
                    client.read_line(&mut line).await.unwrap();
                }
                let mut api = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut api).await;
            });
        }
    });
    (own, asked)
}

/// Commits two rows for the API at `url` and waits until they are delivered, or until `/ready` says why not.
async fn outcome(
    server: &PostgresServer,
    schema: &str,
    url: &str,
    more: &str,
) -> Result<(), String> {
    let mut stage = RestStage::new(server, schema.to_owned()).await;
    let mut sink = stage.tables_sink(QUEUE).await;
    let commit = posted(&epoch(1).upserted(1, "x").upserted(2, "y").build(), KEYED);
    sink.commit(&commit).await.unwrap();
    let running = deliver(stage.config(), url, more);
    let failure = || running.health.readiness().conditions.get(&Condition::Rest).cloned();
    let outcome = loop {
        if stage.waiting().await == 0 {
            break Ok(());
        }
        if let Some(reason) = failure() {
            break Err(reason);
        }
    };
    running.end().await;
    outcome
}

#[tokio::test]
async fn each_kind_of_credentials_is_shown_to_the_api() {
    let server = PostgresServer::start(Durability::Off).await;
    let kinds = [
        ("bearer", "kind = 'bearer', token = 'secret'", "Bearer secret"),
        ("basic", "kind = 'basic', username = 'me', password = 'pass'", "Basic bWU6cGFzcw=="),
        ("api_key", "kind = 'api_key', header = 'X-Api-Key', api_key = 'key'", "key"),
    ];
    for (schema, auth, wants) in kinds {
        let (port, seen) = api(None).await;
        seen.lock().unwrap().wants = Some(wants.to_owned());
        let url = format!("http://127.0.0.1:{port}/base");
        outcome(&server, schema, &url, &format!("auth = {{ {auth} }}")).await.unwrap();
        let seen = seen.lock().unwrap();
        let paths: Vec<&str> = seen.requests.iter().map(|(uri, ..)| uri.path()).collect();
        assert_eq!(paths, ["/base/api/v1/events"; 2], "{schema}");
    }
    let (port, seen) = api(None).await;
    seen.lock().unwrap().wants = Some("Bearer another".to_owned());
    let url = format!("http://127.0.0.1:{port}");
    let auth = "auth = { kind = 'bearer', token = 'secret' }\nattempts = 1";
    let refused = outcome(&server, "wrong", &url, auth).await.unwrap_err();
    assert!(refused.contains("401") && !refused.contains("secret"), "{refused}");
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_is_not_taken_any_more() {
    let server = PostgresServer::start(Durability::Off).await;
    let (port, seen) = api(None).await;
    let url = format!("http://127.0.0.1:{port}");
    let auth = format!(
        "auth = {{ kind = 'oauth2', token_url = '{url}/token', client_id = 'me', client_secret = 'pass', \
         scope = 'write' }}\nparallel = 1"
    );
    outcome(&server, "oauth2", &url, &auth).await.unwrap();
    let requests = {
        let mut seen = seen.lock().unwrap();
        assert_eq!(seen.tokens, 1);
        let (_, headers, body) = &seen.requests[0];
        assert_eq!(headers["authorization"], "Basic bWU6cGFzcw==");
        assert_eq!(body, "grant_type=client_credentials&scope=write");
        assert_eq!(seen.requests[1].1["authorization"], "Bearer token 1");
        std::mem::take(&mut seen.requests)
    };
    assert_eq!(requests.len(), 3);
    // A new delivery has no token; the API has forgotten the one that the token server gives.
    seen.lock().unwrap().tokens = 5;
    outcome(&server, "oauth2_again", &url, &auth).await.unwrap();
    assert_eq!(seen.lock().unwrap().tokens, 6);
}

#[tokio::test]
async fn an_api_with_tls_is_trusted_by_its_authority_alone() {
    let server = PostgresServer::start(Durability::Off).await;
    let (authority, other) = (Authority::new(), Authority::new());
    let (port, seen) = api(Some(&authority.issue("api", "IP:127.0.0.1"))).await;
    let url = format!("https://127.0.0.1:{port}");
    let trusting = |path: &Path| format!("attempts = 1\nca_file = '{}'", path.display());
    outcome(&server, "trusted", &url, &trusting(&authority.certificate())).await.unwrap();
    assert_eq!(seen.lock().unwrap().requests.len(), 2);
    for (schema, more) in
        [("system", "attempts = 1".to_owned()), ("other", trusting(&other.certificate()))]
    {
        let refused = outcome(&server, schema, &url, &more).await.unwrap_err();
        assert!(refused.contains("certificate"), "{schema}: {refused}");
    }
    // Right authority, another name.
    let (port, _) = api(Some(&authority.issue("another", "DNS:api.example"))).await;
    let url = format!("https://127.0.0.1:{port}");
    let refused = outcome(&server, "name", &url, &trusting(&authority.certificate())).await;
    assert!(refused.clone().unwrap_err().contains("certificate"), "{refused:?}");
    assert_eq!(seen.lock().unwrap().requests.len(), 2, "no row to whom is not trusted");
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_api_with_tls_and_without() {
    let server = PostgresServer::start(Durability::Off).await;
    // Without TLS the proxy gets the request itself, with the whole address.
    let (port, seen) = api(None).await;
    let proxy = format!("proxy = 'http://127.0.0.1:{port}'");
    outcome(&server, "plain", "http://api.example", &proxy).await.unwrap();
    let addresses: Vec<String> =
        seen.lock().unwrap().requests.iter().map(|(uri, ..)| uri.to_string()).collect();
    assert_eq!(addresses, ["http://api.example/api/v1/events"; 2]);

    let authority = Authority::new();
    let (port, seen) = api(Some(&authority.issue("api", "DNS:api.example"))).await;
    let (proxy, asked) = tunnels_to(port).await;
    let more = format!(
        "proxy = 'http://127.0.0.1:{proxy}'\nca_file = '{}'",
        authority.certificate().display()
    );
    outcome(&server, "tunnel", "https://api.example", &more).await.unwrap();
    let mut hosts: BTreeMap<String, usize> = BTreeMap::new();
    for line in asked.lock().unwrap().iter() {
        *hosts.entry(line.clone()).or_default() += 1;
    }
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["CONNECT api.example:443 HTTP/1.1"]);
    assert_eq!(seen.lock().unwrap().requests.len(), 2);
}
