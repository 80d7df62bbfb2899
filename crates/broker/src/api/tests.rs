//! The API over HTTP.

use reqwest::{Client, StatusCode};

use super::*;

const PATH: &str = "/api/v1/events";

struct Api {
    url: String,
    client: Client,
    _stop: tokio_util::sync::DropGuard,
}

impl Api {
    async fn start(kept: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, Store::keeping(kept), stop.clone()));
        let client = Client::builder().no_proxy().build().unwrap();
        Self { url, client, _stop: stop.drop_guard() }
    }

    async fn post(&self, key: &str, body: &'static str) -> reqwest::Result<StatusCode> {
        let request = self.client.post(format!("{}{}", self.url, PATH));
        let request =
            request.header("Idempotency-Key", key).header("Tidemark-Operation", "created");
        Ok(request.body(body).send().await?.status())
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    async fn set(&self, faults: &'static str) -> StatusCode {
        let request = self.client.put(format!("{}/faults", self.url)).body(faults);
        request.header("Content-Type", "application/json").send().await.unwrap().status()
    }
}

#[tokio::test]
async fn a_key_is_taken_once_and_its_deliveries_are_counted() {
    let api = Api::start(10).await;
    assert_eq!(api.post("a", r#"{"event_type": "X"}"#).await.unwrap(), 201);
    assert_eq!(api.post("a", r#"{"event_type": "Y"}"#).await.unwrap(), 200);
    assert_eq!(api.post("b", r#"{"event_type": "Z"}"#).await.unwrap(), 201);
    let first = json!([{"number": 1, "path": PATH, "idempotency_key": "a", "operation": "created",
        "deliveries": 2, "body": {"event_type": "X"}}]);
    assert_eq!(api.get("/api/v1/events?type=X").await, first);
    assert_eq!(api.get("/api/v1/events?idempotency_key=a").await, first);
    assert_eq!(api.get("/api/v1/events?after=1").await[0]["body"]["event_type"], "Z");
    assert_eq!(api.get("/api/v1/events?limit=1").await, first);
    assert_eq!(api.get("/api/v1/notifications").await, json!([]));
    let stats = json!({"requests": {PATH: 3}, "rows": 2, "duplicates": 1});
    assert_eq!(api.get("/stats").await, stats);
}

#[tokio::test]
async fn what_it_can_not_take_is_refused_and_the_oldest_is_forgotten() {
    let api = Api::start(2).await;
    assert_eq!(api.post("", "{}").await.unwrap(), 400);
    assert_eq!(api.post("a", "{").await.unwrap(), 400);
    for key in ["a", "b", "c"] {
        assert_eq!(api.post(key, "{}").await.unwrap(), 201);
    }
    assert_eq!(api.post("b", "{}").await.unwrap(), 200, "still known");
    assert_eq!(api.post("a", "{}").await.unwrap(), 201, "forgotten");
    assert_eq!(api.get("/stats").await["rows"], 2);
}

#[tokio::test]
async fn faults_are_switched_over_http() {
    let api = Api::start(1000).await;
    for (faults, status) in [
        (r#"{"unavailable_percent": 100}"#, 503),
        (r#"{"too_many_percent": 100, "retry_after": "7"}"#, 429),
        (r#"{"refuse_percent": 100}"#, 400),
        (r#"{"slow_ms": 1}"#, 201),
    ] {
        assert_eq!(api.set(faults).await, 200, "{faults}");
        assert_eq!(api.post(faults, "{}").await.unwrap(), status, "{faults}");
    }
    assert_eq!(api.set(r#"{"drop_percent": 60, "refuse_percent": 41}"#).await, 400);
    assert_eq!(api.set(r#"{"retry_after": "a\nb"}"#).await, 400);
    assert_eq!(api.get("/faults").await["slow_ms"], 1);

    assert_eq!(api.set(r#"{"drop_percent": 100}"#).await, 200);
    // Taken or not by chance; the sender hears nothing in either case.
    for number in 0..40 {
        assert!(api.post(&number.to_string(), "{}").await.is_err());
    }
    let taken = api.get("/stats").await["rows"].as_u64().unwrap();
    assert!((2..=40).contains(&taken), "{taken} of 40 were taken");
}

#[tokio::test]
async fn the_document_names_every_path() {
    let api = Api::start(1).await;
    assert_eq!(api.post("a", "{}").await.unwrap(), 201);
    let document = api.get("/openapi.json").await;
    for path in [PATH, "/{path}", "/faults", "/stats"] {
        assert!(document["paths"][path]["get"].is_object(), "{path}");
    }
}

#[tokio::test]
async fn rows_are_taken_at_any_path() {
    let api = Api::start(10).await;
    for path in ["/hooks/wards", "/", "/a/b/c/d"] {
        let request = api.client.post(format!("{}{path}", api.url));
        let answer = request.header("Idempotency-Key", path).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 201, "{path}");
        assert_eq!(api.get(path).await[0]["path"], path);
    }
    assert_eq!(api.get("/stats").await["rows"], 3);
}
