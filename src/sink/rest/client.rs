//! One request and what its answer means.

use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, Proxy, Response, StatusCode};
use tidemark_base::http_client::beginning;
use url::Url;

use super::auth::Credentials;
use super::config::RestConfig;
use super::retry_after;
use crate::resilience::chain;
use crate::sink::SinkError;
use crate::sink::outbox::OutboxRow;

/// The most bytes of an answer that are looked at.
const ANSWER_BYTES: usize = 2 << 10;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PostOutcome {
    Delivered,
    /// The API says that the row is wrong.
    Refused {
        reason: String,
    },
    /// The API has looked at the row and failed over it. Whether the row is to blame, other rows show.
    Errored {
        /// For logs and pages: without the answer, which may repeat the row.
        told: String,
        reason: String,
        retry_after: Option<Duration>,
    },
    /// The API is not there, or overloaded; or the way to it or our rights are at fault.
    Failed {
        told: String,
        retry_after: Option<Duration>,
    },
}

/// Posts rows to one API.
#[derive(Debug, Clone)]
pub(super) struct RestClient {
    http: Client,
    credentials: Credentials,
    base: String,
}

impl RestClient {
    pub(super) fn new(config: &RestConfig) -> Result<Self, SinkError> {
        let problem = |problem: String| SinkError::Config { problems: vec![problem] };
        let mut builder = Client::builder()
            .timeout(config.timeout)
            .connect_timeout(config.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tidemark/", env!("CARGO_PKG_VERSION")));
        if let Some(proxy) = &config.proxy {
            let proxy = Proxy::all(proxy.url().clone())
                .map_err(|error| problem(format!("sink.rest.proxy: {}", chain(&error))))?;
            builder = builder.proxy(proxy);
        }
        if let Some(path) = &config.ca_file {
            let wrong =
                |error: String| problem(format!("sink.rest.ca_file: {}: {error}", path.display()));
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            for certificate in
                Certificate::from_pem_bundle(&pem).map_err(|error| wrong(chain(&error)))?
            {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http =
            builder.build().map_err(|error| problem(format!("sink.rest: {}", chain(&error))))?;
        let credentials = Credentials::new(config.auth.clone());
        Ok(Self { http, credentials, base: base(config.base_url.url()) })
    }

    pub(super) async fn post(&self, row: &OutboxRow) -> PostOutcome {
        let request = self
            .http
            .post(format!("{}{}", self.base, row.path))
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", &row.idempotency_key)
            .header("Tidemark-Operation", &row.operation)
            .body(row.body.clone());
        let request = match self.credentials.add(&self.http, request).await {
            Ok(request) => request,
            Err(told) => return PostOutcome::Failed { told, retry_after: None },
        };
        match request.send().await {
            Ok(response) => self.outcome(response).await,
            Err(error) => failed(error),
        }
    }

    /// Asks for nothing but an answer.
    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<StatusCode, String> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = self.credentials.add(&self.http, request).await?;
        let answer = request.send().await;
        answer.map(|answer| answer.status()).map_err(|error| chain(&error.without_url()))
    }

    async fn outcome(&self, mut response: Response) -> PostOutcome {
        let status = response.status();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|text| retry_after::parse(text, SystemTime::now()));
        // An answer that breaks off may have been about another thing than its status.
        let body = match beginning(&mut response, ANSWER_BYTES).await {
            Ok(body) => String::from_utf8_lossy(&body).replace('\0', "\u{fffd}"),
            Err(error) => return failed(error),
        };
        if status.is_success() {
            return PostOutcome::Delivered;
        }
        let told = format!("the API answers {status}");
        let reason = if body.is_empty() { told.clone() } else { format!("{told}: {body}") };
        if status == StatusCode::UNAUTHORIZED {
            self.credentials.forget_token().await;
        }
        if is_about_the_row(status) {
            PostOutcome::Refused { reason }
        } else if may_be_about_the_row(status) {
            PostOutcome::Errored { told, reason, retry_after }
        } else {
            PostOutcome::Failed { told, retry_after }
        }
    }
}

/// Whether a status says that this row is wrong. Wrong credentials, redirects and overload are about all rows.
fn is_about_the_row(status: StatusCode) -> bool {
    const ABOUT_ALL: [StatusCode; 5] = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_client_error() && !ABOUT_ALL.contains(&status)
}

/// Whether the API itself answers that it could not do it. A gateway that does not reach it, and one that is
/// overloaded, says nothing about the row.
fn may_be_about_the_row(status: StatusCode) -> bool {
    const AWAY: [StatusCode; 3] =
        [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    status.is_server_error() && !AWAY.contains(&status)
}

fn failed(error: reqwest::Error) -> PostOutcome {
    // The URL is that of the configuration, and the path is told by others.
    PostOutcome::Failed { told: chain(&error.without_url()), retry_after: None }
}

fn base(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_row_refuses_it() {
        for (status, refused) in [
            (400, true),
            (401, false),
            (403, false),
            (404, true),
            (407, false),
            (408, false),
            (409, true),
            (413, true),
            (422, true),
            (429, false),
            (302, false),
            (500, false),
            (503, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_about_the_row(status), refused, "{status}");
        }
    }

    #[test]
    fn only_the_answer_of_the_api_itself_may_be_about_the_row() {
        for (status, may_be) in [(500, true), (501, true), (502, false), (503, false), (504, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_be_about_the_row(status), may_be, "{status}");
        }
        assert!(!may_be_about_the_row(StatusCode::TOO_MANY_REQUESTS));
    }
}
