//! How requests say who we are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use tidemark_base::Secret;
use tidemark_base::http_client::{WebUrl, beginning};
use tokio::sync::Mutex;

use crate::resilience::chain;

/// The most bytes of a token server's answer.
const TOKEN_BYTES: usize = 64 << 10;
/// A token without a stated life is used this long.
const DEFAULT_LIFE: u64 = 300;
/// A token is renewed this long before it ends.
const MARGIN: Duration = Duration::from_secs(10);

/// The `[sink.rest.auth]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    #[default]
    None,
    /// `Authorization: Bearer TOKEN`.
    Bearer { token: Secret },
    /// `Authorization: Basic ...`.
    Basic { username: String, password: Secret },
    /// A header of its own, such as `X-Api-Key`.
    ApiKey { header: String, api_key: Secret },
    /// A bearer token from a token server, by the client credentials grant of OAuth 2.0.
    Oauth2 {
        token_url: WebUrl,
        client_id: String,
        client_secret: Secret,
        /// Space-separated.
        scope: Option<String>,
    },
}

impl Auth {
    /// Everything that is wrong, each with its key.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self {
            Self::None | Self::Basic { .. } | Self::Oauth2 { .. } => {}
            Self::Bearer { token } => {
                if HeaderValue::from_str(token.expose()).is_err() {
                    problems.push("token: has characters that a header can't hold".to_owned());
                }
            }
            Self::ApiKey { header, api_key } => {
                if HeaderName::from_bytes(header.as_bytes()).is_err() {
                    problems.push(format!("header: '{header}' is no name of a header"));
                }
                if HeaderValue::from_str(api_key.expose()).is_err() {
                    problems.push("api_key: has characters that a header can't hold".to_owned());
                }
            }
        }
        problems
    }
}

/// The credentials of a client, with the token that it has got.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    auth: Auth,
    token: Arc<Mutex<Option<AccessToken>>>,
}

#[derive(Debug)]
struct AccessToken {
    text: Secret,
    until: Instant,
}

impl Credentials {
    pub(super) fn new(auth: Auth) -> Self {
        Self { auth, token: Arc::default() }
    }

    /// The request with its credentials; the reason if no token could be had.
    pub(super) async fn add(
        &self,
        client: &Client,
        request: RequestBuilder,
    ) -> Result<RequestBuilder, String> {
        Ok(match &self.auth {
            Auth::None => request,
            Auth::Bearer { token } => request.bearer_auth(token.expose()),
            Auth::Basic { username, password } => {
                request.basic_auth(username, Some(password.expose()))
            }
            Auth::ApiKey { header, api_key } => request.header(header, api_key.expose()),
            Auth::Oauth2 { token_url, client_id, client_secret, scope } => {
                let ask = || {
                    let mut form = vec![("grant_type", "client_credentials")];
                    form.extend(scope.as_deref().map(|scope| ("scope", scope)));
                    client
                        .post(token_url.url().clone())
                        .basic_auth(client_id, Some(client_secret.expose()))
                        .form(&form)
                };
                let mut held = self.token.lock().await;
                let is_good = held.as_ref().is_some_and(|token| token.until > Instant::now());
                if !is_good {
                    *held = Some(fetch(ask()).await?);
                }
                let token = held.as_ref().map_or("", |token| token.text.expose());
                request.bearer_auth(token)
            }
        })
    }

    /// The API did not take the token: the next request asks for a new one.
    pub(super) async fn forget_token(&self) {
        *self.token.lock().await = None;
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: Secret,
    expires_in: Option<u64>,
}

/// Asks the token server. What it answers never shows in a reason: it may hold a token.
async fn fetch(request: RequestBuilder) -> Result<AccessToken, String> {
    let failed = |error: reqwest::Error| {
        format!("the token server can't be reached: {}", chain(&error.without_url()))
    };
    let mut response = request.send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(format!("the token server answers {}", response.status()));
    }
    let body = beginning(&mut response, TOKEN_BYTES).await.map_err(failed)?;
    let answer: TokenResponse = serde_json::from_slice(&body)
        .map_err(|_| "the token server's answer has no access_token".to_owned())?;
    let life = Duration::from_secs(answer.expires_in.unwrap_or(DEFAULT_LIFE).min(86_400));
    let until = Instant::now() + life.saturating_sub(MARGIN);
    Ok(AccessToken { text: answer.access_token, until })
}
