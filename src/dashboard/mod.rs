//! The HTTP pages of the processor: `/live`, `/health`, `/ready`, `/metrics` and a status page at `/`.
//!
//! It shows what `telemetry` holds and changes nothing.

mod limited_server;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Health, Readiness, names};
use limited_server::Limits;

/// The `[http]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DashboardConfig {
    /// Address and port; `127.0.0.1:8080` by default, so that nothing is open to the network
    /// unless it is asked for.
    pub listen: SocketAddr,
}

impl Default for DashboardConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)) }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("can't listen on {listen} (http.listen): choose a free port")]
pub struct ListenError {
    listen: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Binds the address of the configuration.
///
/// # Errors
/// If it is taken or not of this machine.
pub async fn listen(config: &DashboardConfig) -> Result<TcpListener, ListenError> {
    let listen = config.listen;
    TcpListener::bind(listen).await.map_err(|source| ListenError { listen, source })
}

#[derive(Clone)]
struct PageState {
    pipeline: String,
    health: Health,
    metrics: Option<PrometheusHandle>,
}

/// Serves the pages until `shutdown`.
///
/// # Errors
/// If the listener breaks.
pub async fn serve(
    listener: TcpListener,
    pipeline: String,
    health: Health,
    metrics: Option<PrometheusHandle>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(status))
        .route("/live", get(|| async { "live\n" }))
        .route("/health", get(all))
        .route("/ready", get(ready))
        .route("/metrics", get(prometheus))
        .with_state(PageState { pipeline, health, metrics });
    limited_server::serve(listener, router, Limits::default(), shutdown).await
}

async fn ready(State(shown): State<PageState>) -> Response {
    let readiness = shown.health.readiness();
    let code = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(readiness)).into_response()
}

/// What `/ready` says, for those who want to read it whatever it is: 200 as long as the process answers.
async fn all(State(shown): State<PageState>) -> Json<Readiness> {
    Json(shown.health.readiness())
}

async fn prometheus(State(shown): State<PageState>) -> Response {
    match &shown.metrics {
        Some(handle) => {
            let is_ready = shown.health.readiness().ready;
            gauge!(names::READY).set(if is_ready { 1.0 } else { 0.0 });
            handle.render().into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn status(State(shown): State<PageState>) -> Html<String> {
    let readiness = shown.health.readiness();
    let word = if readiness.ready { "ready" } else { "not ready" };
    let mut lines = String::new();
    for (part, reason) in &readiness.conditions {
        lines.push_str(&format!("<li>{part:?}: {}</li>", escaped(reason)));
    }
    let metrics = shown.metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default();
    let counters: Vec<&str> = metrics.lines().filter(|line| !line.starts_with('#')).collect();
    Html(format!(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2><title>Tidemark</title>\
         <body style='font-family:sans-serif'><h1>Tidemark: {}</h1><p><b>{word}</b></p><ul>{lines}</ul><pre>{}</pre>",
        escaped(&shown.pipeline),
        escaped(&counters.join("\n")),
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
