//! What the broker tells of its queues by HTTP: a part of the vendor's monitoring interface.
//!
//! Source: Solace SEMP v2 monitor API, `/msgVpns/{vpn}/queues` and `/msgVpns/{vpn}/queues/{queue}`. There are no
//! message VPNs here, so that any name is one. Who may log in may ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::config::User;
use super::core::{Core, Hub};
use super::queue::Queue;

/// SEMP's number for a name that is not there.
const NOT_FOUND: u32 = 6;

type Users = Arc<BTreeMap<String, User>>;

pub(super) fn router(hub: Arc<Hub>, users: BTreeMap<String, User>) -> Router {
    let queues = "/SEMP/v2/monitor/msgVpns/{vpn}/queues";
    Router::new()
        .route(queues, get(all))
        .route(&format!("{queues}/{{queue}}"), get(one))
        .with_state(hub)
        .layer(from_fn_with_state(Users::new(users), check))
}

/// Without users there is nobody to be refused; then the address is a loopback one.
async fn check(State(users): State<Users>, request: Request, next: Next) -> Response {
    if users.is_empty() || is_known(&users, request.headers()) {
        return next.run(request).await;
    }
    let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"SEMP\"")];
    (StatusCode::UNAUTHORIZED, challenge).into_response()
}

fn is_known(users: &BTreeMap<String, User>, headers: &HeaderMap) -> bool {
    let login = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let encoded = login.and_then(|value| value.strip_prefix("Basic "));
    let decoded = encoded.and_then(|text| BASE64_STANDARD.decode(text).ok());
    let Some((name, password)) = decoded
        .as_deref()
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|text| text.split_once(':'))
    else {
        return false;
    };
    users.get(name).is_some_and(|user| user.password.matches(password))
}

async fn one(
    State(hub): State<Arc<Hub>>,
    Path((vpn, queue)): Path<(String, String)>,
    uri: Uri,
) -> Response {
    let core = hub.lock();
    let Some(found) = core.queue_named(&queue) else {
        let error = json!({
            "code": NOT_FOUND, "status": "NOT_FOUND",
            "description": format!("Could not find match for queue {queue}"),
        });
        let meta = json!({"error": error, "request": request(&uri), "responseCode": 400});
        return (StatusCode::BAD_REQUEST, Json(json!({"meta": meta}))).into_response();
    };
    let (data, collections) = (described(&core, found, &vpn), counted(found));
    let meta = json!({"request": request(&uri), "responseCode": 200});
    Json(json!({"collections": collections, "data": data, "meta": meta})).into_response()
}

async fn all(State(hub): State<Arc<Hub>>, Path(vpn): Path<String>, uri: Uri) -> Response {
    let core = hub.lock();
    let mut queues: Vec<&Queue> = core.queues().collect();
    queues.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
    let data: Vec<Value> = queues.iter().map(|queue| described(&core, queue, &vpn)).collect();
    let collections: Vec<Value> = queues.iter().map(|queue| counted(queue)).collect();
    let meta = json!({"count": data.len(), "request": request(&uri), "responseCode": 200});
    Json(json!({"collections": collections, "data": data, "meta": meta})).into_response()
}

fn request(uri: &Uri) -> Value {
    json!({"method": "GET", "uri": uri.path()})
}

/// Messages in the queue: those that wait, and those that consumers hold.
fn counted(queue: &Queue) -> Value {
    json!({
        "msgs": {"count": queue.depth() + queue.held()},
        "txFlows": {"count": queue.flows().len()},
    })
}

fn described(core: &Core, queue: &Queue, vpn: &str) -> Value {
    let settings = &queue.settings;
    json!({
        "queueName": settings.name,
        "msgVpnName": vpn,
        "accessType": if queue.is_exclusive() { "exclusive" } else { "non-exclusive" },
        "partitionCount": settings.partitions,
        "durable": queue.owner.is_none(),
        "ingressEnabled": true,
        "egressEnabled": true,
        "bindCount": queue.flows().len(),
        "deadMsgQueue": settings.dead_message_queue(),
        "redeliveryEnabled": true,
        "maxRedeliveryCount": settings.max_redelivery.unwrap_or(0),
        "maxDeliveredUnackedMsgsPerFlow": core.max_unacked(),
        "txUnackedMsgCount": queue.held(),
        "maxMsgSpoolUsage": core.quota(queue),
        "msgSpoolUsage": queue.used_bytes,
        "rejectMsgToSenderOnDiscardBehavior": "always",
        "respectTtlEnabled": false,
        "maxTtl": 0,
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::spool::Spool;
    use crate::{Config, Password, QueueConfig};

    async fn served(users: &[(&str, &str)], folder: &std::path::Path) -> (SocketAddr, Arc<Hub>) {
        let queue = |name: &str| QueueConfig {
            name: name.to_owned(),
            max_redelivery: Some(3),
            ..QueueConfig::default()
        };
        let config = Config { queues: vec![queue("cdc"), queue("a/b c")], ..Config::default() };
        let (spool, recovered) = Spool::open(folder, 1 << 20).unwrap();
        let hub = Arc::new(Hub::new(Core::new(&config, spool, recovered).unwrap()));
        let users = users
            .iter()
            .map(|(name, password)| ((*name).to_owned(), Password::new(*password).into()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(Arc::clone(&hub), users.collect());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (address, hub)
    }

    async fn ask(address: SocketAddr, path: &str, login: Option<(&str, &str)>) -> (u16, Value) {
        let url = format!("http://{address}/SEMP/v2/monitor/msgVpns/default/queues{path}");
        let request = reqwest::Client::new().get(url);
        let request = match login {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        };
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.text().await.unwrap();
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    #[tokio::test]
    async fn a_queue_tells_its_settings_and_how_full_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (address, _hub) = served(&[], folder.path()).await;
        let (status, answer) = ask(address, "/cdc", None).await;
        assert_eq!((status, &answer["data"]["queueName"]), (200, &json!("cdc")));
        assert_eq!(answer["collections"]["msgs"]["count"], 0);
        assert_eq!(answer["data"]["maxRedeliveryCount"], 3);
        assert_eq!(answer["data"]["maxMsgSpoolUsage"], 5000);
        let (_, answer) = ask(address, "/a%2Fb%20c", None).await;
        assert_eq!(answer["data"]["queueName"], "a/b c");
        let (_, answer) = ask(address, "", None).await;
        assert_eq!(
            (&answer["meta"]["count"], &answer["data"][1]["queueName"]),
            (&json!(2), &json!("cdc"))
        );
    }

    #[tokio::test]
    async fn a_queue_that_is_not_there_is_error_400_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (address, _hub) = served(&[], folder.path()).await;
        let (status, answer) = ask(address, "/other", None).await;
        assert_eq!((status, &answer["meta"]["error"]["status"]), (400, &json!("NOT_FOUND")));
    }

    #[tokio::test]
    async fn with_users_only_they_are_answered() {
        let folder = tempfile::tempdir().unwrap();
        let (address, _hub) = served(&[("ops", "hush")], folder.path()).await;
        assert_eq!(ask(address, "/cdc", Some(("ops", "hush"))).await.0, 200);
        for login in [None, Some(("ops", "other")), Some(("cdc", "hush")), Some(("", ""))] {
            assert_eq!(ask(address, "/cdc", login).await.0, 401, "{login:?}");
        }
    }
}
