//! What `tidemark doctor` finds out about the API. Nothing is posted.

use reqwest::{Method, StatusCode};

use super::client::RestClient;
use super::config::RestConfig;
use crate::diagnosis::Finding;
use crate::resilience::chain;

/// Asks each path for its options.
pub async fn examine(config: &RestConfig, paths: &[&str]) -> Vec<Finding> {
    let client = match RestClient::new(config) {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding::problem(
                chain(&error),
                "correct [sink.rest] as the message says",
            )];
        }
    };
    let mut findings = Vec::new();
    for path in if paths.is_empty() { &["/"][..] } else { paths } {
        findings.push(match client.ask(Method::OPTIONS, path).await {
            Ok(status) => judge(path, status),
            Err(reason) => Finding::problem(
                format!("the API can't be reached for {path}: {reason}"),
                "start the API, or correct base_url, proxy or ca_file in [sink.rest]",
            ),
        });
    }
    findings
}

/// Many an API knows no OPTIONS; what it answers tells all the same who we are to it.
fn judge(path: &str, status: StatusCode) -> Finding {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Finding::problem(
            format!("the API answers {status} for {path}"),
            "correct the credentials in [sink.rest.auth], or let this client use the path",
        ),
        StatusCode::NOT_FOUND => Finding::problem(
            format!("the API has no {path}"),
            format!(
                "correct base_url in [sink.rest], or the path in the `-- writes: rest {path}` line"
            ),
        ),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Finding::problem(
            format!("the proxy refuses us on the way to {path}"),
            "put user and password into proxy in [sink.rest]",
        ),
        _ if status.is_server_error() => Finding::problem(
            format!("the API answers {status} for {path}"),
            "see the API's own log; rows wait in the outbox until it is well again",
        ),
        _ => Finding::ok(format!("the API answers for {path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Verdict;

    #[test]
    fn an_answer_tells_who_we_are_to_the_api() {
        let verdict = |status: u16| judge("/a", StatusCode::from_u16(status).unwrap()).verdict;
        for status in [200, 204, 400, 405] {
            assert_eq!(verdict(status), Verdict::Ok, "{status}");
        }
        for status in [401, 403, 404, 407, 500, 503] {
            assert_eq!(verdict(status), Verdict::Problem, "{status}");
        }
    }

    async fn answering(status: u16) -> RestConfig {
        let status = axum::http::StatusCode::from_u16(status).unwrap();
        let router = axum::Router::new().fallback(move || async move { status });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("base_url = 'http://{}'", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        toml::from_str(&url).unwrap()
    }

    #[tokio::test]
    async fn each_path_is_asked() {
        let findings = examine(&answering(405).await, &["/a", "/b"]).await;
        assert_eq!(findings.len(), 2);
        assert!(findings.iter().all(|f| f.verdict == Verdict::Ok), "{findings:?}");
        let findings = examine(&answering(401).await, &[]).await;
        assert!(findings[0].fix.as_ref().unwrap().contains("sink.rest.auth"), "{findings:?}");
        let closed: RestConfig = toml::from_str("base_url = 'http://127.0.0.1:1'").unwrap();
        let findings = examine(&closed, &["/a"]).await;
        assert!(findings[0].what.contains("can't be reached"), "{findings:?}");
    }
}
