//! The `[sink.rest]` section.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidemark_base::http_client::WebUrl;

use super::auth::Auth;

/// The API that `-- writes: rest /PATH` posts to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestConfig {
    /// `http://` or `https://`, host and port; a path in it comes before the path of a transform.
    pub base_url: WebUrl,
    /// How requests say who we are. Default: not at all.
    #[serde(default)]
    pub auth: Auth,
    /// For a request with its answer. Default 10 s.
    #[serde(default = "default_timeout", with = "humantime_serde")]
    pub timeout: Duration,
    /// For the connection alone. Default 5 s.
    #[serde(default = "default_connect_timeout", with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Requests at the same time, each of another lane. Default 16.
    #[serde(default = "default_parallel")]
    pub parallel: NonZeroUsize,
    /// Attempts at a row before its path counts as failing. A row that the API answers with a server error (5xx, but 502,
    /// 503 and 504) is then a dead letter if the API has taken other rows of the path meanwhile. Default 3.
    #[serde(default = "default_attempts")]
    pub attempts: NonZeroU32,
    /// The wait after a first failure; doubled each time, with jitter. `Retry-After` goes before it. Default 1 s.
    #[serde(default = "default_first_wait", with = "humantime_serde")]
    pub first_wait: Duration,
    /// The longest of these waits. Default 30 s.
    #[serde(default = "default_longest_wait", with = "humantime_serde")]
    pub longest_wait: Duration,
    /// Failing rows in a row that open the circuit breaker of their path. Default 5.
    #[serde(default = "default_breaker_failures")]
    pub breaker_failures: NonZeroU32,
    /// How long an open breaker stays open. Default 30 s.
    #[serde(default = "default_breaker_pause", with = "humantime_serde")]
    pub breaker_pause: Duration,
    /// Rows in the outbox above which no further epoch with rows for it is committed. They are on the database's disk
    /// and not in memory. Default 1000000.
    #[serde(default = "default_outbox_limit")]
    pub outbox_limit: NonZeroUsize,
    /// How long the key of a row that is sent once is remembered after its delivery; then it could be sent again.
    /// Default: for ever.
    #[serde(default, with = "humantime_serde")]
    pub once_retention: Option<Duration>,
    /// `http://proxy:3128`. Default: what `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.
    pub proxy: Option<WebUrl>,
    /// A PEM file with further certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_parallel() -> NonZeroUsize {
    NonZeroUsize::new(16).expect("is not 0")
}

fn default_attempts() -> NonZeroU32 {
    NonZeroU32::new(3).expect("is not 0")
}

fn default_first_wait() -> Duration {
    Duration::from_secs(1)
}

fn default_longest_wait() -> Duration {
    Duration::from_secs(30)
}

fn default_breaker_failures() -> NonZeroU32 {
    NonZeroU32::new(5).expect("is not 0")
}

fn default_breaker_pause() -> Duration {
    Duration::from_secs(30)
}

fn default_outbox_limit() -> NonZeroUsize {
    NonZeroUsize::new(1_000_000).expect("is not 0")
}

impl RestConfig {
    /// Everything that is wrong, each with its key; empty if it can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let base = self.base_url.url();
        if base.password().is_some() || !base.username().is_empty() {
            problems.push("base_url: give user and password under auth".to_owned());
        }
        if base.query().is_some() || base.fragment().is_some() {
            problems.push("base_url: must end before ? and #".to_owned());
        }
        for (key, wait) in [
            ("timeout", self.timeout),
            ("connect_timeout", self.connect_timeout),
            ("first_wait", self.first_wait),
            ("longest_wait", self.longest_wait),
            ("breaker_pause", self.breaker_pause),
        ] {
            if wait.is_zero() {
                problems.push(format!("{key}: must be above 0"));
            }
        }
        problems.extend(self.auth.problems().into_iter().map(|problem| format!("auth.{problem}")));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<RestConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn every_option_is_read() {
        let text = "base_url = 'https://api/base'\ntimeout = '2s'\nconnect_timeout = '1s'\nparallel = 4\n\
            attempts = 2\nfirst_wait = '5ms'\nlongest_wait = '9s'\nbreaker_failures = 7\n\
            breaker_pause = '3s'\noutbox_limit = 50\nonce_retention = '30d'\nproxy = 'http://proxy:3128'\nca_file = '/ca.pem'\n\
            auth = { kind = 'basic', username = 'me', password = 'hunter2' }";
        let config = parsed(text).unwrap();
        assert_eq!(config.problems(), [""; 0]);
        assert_eq!((config.timeout.as_secs(), config.connect_timeout.as_secs()), (2, 1));
        assert_eq!((config.parallel.get(), config.attempts.get()), (4, 2));
        assert_eq!((config.first_wait.as_millis(), config.longest_wait.as_secs()), (5, 9));
        assert_eq!((config.breaker_failures.get(), config.breaker_pause.as_secs()), (7, 3));
        assert_eq!(config.outbox_limit.get(), 50);
        assert_eq!(config.once_retention, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(config.proxy.as_ref().and_then(|proxy| proxy.url().port()), Some(3128));
        assert_eq!(config.ca_file, Some("/ca.pem".into()));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let config = parsed("base_url = 'http://api'").unwrap();
        assert_eq!((config.attempts.get(), config.first_wait.as_secs()), (3, 1));
        assert_eq!((config.longest_wait.as_secs(), config.breaker_failures.get()), (30, 5));
        assert_eq!((config.breaker_pause.as_secs(), config.outbox_limit.get()), (30, 1_000_000));
        assert_eq!(config.once_retention, None);
    }

    #[test]
    fn all_problems_come_at_once() {
        let config = parsed("base_url = 'http://me:pw@api?x'\ntimeout = '0s'").unwrap();
        assert_eq!(config.problems().len(), 3, "{:?}", config.problems());
        for url in ["ftp://api", "api", "http://"] {
            assert!(parsed(&format!("base_url = '{url}'")).is_err(), "{url}");
        }
        assert!(parsed("base_url = 'http://api'\ntries = 1").is_err());
    }
}
