//! What every client of HTTP needs.

use reqwest::Response;
use serde::Deserialize;
use url::Url;

/// An address of the web: `http://` or `https://`, and a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebUrl(Url);

impl WebUrl {
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl TryFrom<String> for WebUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // The text is not repeated: it may hold a password.
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.map(Self).ok_or("must be a URL such as https://host:port/path")
    }
}

/// The first `limit` bytes of an answer, or a little more.
///
/// # Errors
/// If the rest of the answer does not come.
pub async fn beginning(response: &mut Response, limit: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while bytes.len() < limit
        && let Some(chunk) = response.chunk().await?
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(limit - bytes.len())]);
    }
    Ok(bytes)
}
