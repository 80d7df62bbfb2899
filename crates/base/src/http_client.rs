//! What every client of HTTP needs.

use std::fmt;

use reqwest::Response;
use serde::Deserialize;
use url::Url;

/// An address of the web: `http://` or `https://`, and a host.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebUrl(Url);

/// Without the password that may be in it.
impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(url) = self;
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
        url.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
        f.write_str(url.path())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let url = WebUrl::try_from("https://me:hunter2@proxy:3128/p?token=hunter2".to_owned());
        let shown = format!("{url:?}");
        assert!(!shown.contains("hunter2") && shown.contains("https://proxy:3128/p"), "{shown}");
    }
}
