//! A REST API for development, the demo and tests: it keeps what is posted to it and shows it.
//!
//! A request with a known `Idempotency-Key` changes nothing and is counted, so that one can see how often each
//! was delivered. Faults are switched over HTTP. It knows nothing of the processor.

mod cutting;
mod faults;
mod openapi;
mod store;

pub use faults::Faults;
pub use store::{Received, Stats, Store};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use cutting::{Connection, CuttingListener};
use faults::Verdict;

/// The paths of its own; it takes rows at any other.
const OWN_PATHS: [&str; 3] = ["/faults", "/stats", "/openapi.json"];
/// How many requests are remembered by default.
pub const DEFAULT_KEPT: usize = 100_000;

/// The largest body.
const BODY_BYTES: usize = 1 << 20;
/// The most rows in one list.
const LIST_ROWS: usize = 10_000;

/// Serves until `shutdown`.
///
/// # Errors
/// If the listener breaks.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/faults", get(faults).put(set_faults))
        .route("/stats", get(stats))
        .route("/openapi.json", get(document))
        .fallback_service(post(receive).get(list).with_state(store.clone()))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(store);
    let service = router.into_make_service_with_connect_info::<Connection>();
    axum::serve(CuttingListener(listener), service)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

async fn receive(
    State(store): State<Store>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let faults = store.faults();
    tokio::time::sleep(std::time::Duration::from_millis(faults.slow_ms)).await;
    match faults.verdict() {
        Verdict::Take => {}
        Verdict::Unavailable => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Verdict::TooMany => {
            let wait = [("Retry-After", faults.retry_after)];
            return (StatusCode::TOO_MANY_REQUESTS, wait).into_response();
        }
        Verdict::Refuse => return problem("the fault mode refuses this request"),
        Verdict::CutBefore => {
            connection.cut();
            return StatusCode::OK.into_response();
        }
        // The row is taken, and the sender does not hear of it.
        Verdict::CutAfter => connection.cut(),
    }
    let text = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let key = text("Idempotency-Key");
    if key.is_empty() {
        return problem("the header Idempotency-Key is missing");
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return problem("the body is no JSON");
    };
    let operation = text("Tidemark-Operation");
    match store.receive(uri.path(), key, operation, body) {
        1 => (StatusCode::CREATED, Json(json!({"status": "created"}))).into_response(),
        times => Json(json!({"status": "duplicate", "deliveries": times})).into_response(),
    }
}

fn problem(reason: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": reason}))).into_response()
}

/// Filters of a list; all that are given must fit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    idempotency_key: Option<String>,
    /// `event_type` or `notification_type` of the body.
    r#type: Option<String>,
    /// Only those after this number.
    after: Option<u64>,
    limit: Option<usize>,
}

impl Filter {
    fn fits(&self, received: &Received) -> bool {
        let is_type = |wanted: &String| {
            ["event_type", "notification_type"].iter().any(|name| received.body[*name] == **wanted)
        };
        self.idempotency_key.as_ref().is_none_or(|key| received.idempotency_key == *key)
            && self.r#type.as_ref().is_none_or(is_type)
            && self.after.is_none_or(|after| received.number > after)
    }
}

async fn list(
    State(store): State<Store>,
    uri: Uri,
    Query(filter): Query<Filter>,
) -> Json<Vec<Received>> {
    let limit = filter.limit.unwrap_or(100).min(LIST_ROWS);
    Json(store.list(limit, |received| received.path == uri.path() && filter.fits(received)))
}

async fn document(State(store): State<Store>) -> Json<Value> {
    let stats = store.stats();
    let posted = stats.requests.keys().map(String::as_str);
    Json(openapi::document(posted.filter(|path| !OWN_PATHS.contains(path))))
}

async fn stats(State(store): State<Store>) -> Json<Stats> {
    Json(store.stats())
}

async fn faults(State(store): State<Store>) -> Json<Faults> {
    Json(store.faults())
}

async fn set_faults(State(store): State<Store>, Json(faults): Json<Faults>) -> Response {
    match faults.problem() {
        Some(reason) => problem(reason),
        None => {
            store.set_faults(faults.clone());
            Json(faults).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
