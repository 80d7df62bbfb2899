use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use tokio_postgres::config::SslMode as ClientSslMode;

use crate::recovery::CircuitBreaker;

/// How to reach Postgres, and how long to wait for it.
///
/// Either `url` or `host`, `dbname` and `user`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/dbname`; excludes the single fields.
    pub url: Option<Secret>,
    /// Host name, address, or the folder of a Unix socket.
    pub host: Option<String>,
    /// TCP port. Default 5432.
    pub port: Option<u16>,
    /// Database name.
    pub dbname: Option<String>,
    /// Role to log in as.
    pub user: Option<String>,
    /// Its password, if the server asks for one.
    pub password: Option<Secret>,
    /// Schema of the target tables and of the sink's own. Default `public`.
    #[serde(default = "default_schema")]
    pub schema: String,
    /// What `pg_stat_activity` shows. Default `tidemark`.
    #[serde(default = "default_application_name")]
    pub application_name: String,
    /// Until a connection must stand. Default 10 s.
    #[serde(default = "default_connect_timeout", with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The longest that one statement of an epoch may run. Default 60 s; 0 waits for ever.
    #[serde(default = "default_statement_timeout", with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// The longest wait for a lock, in epochs and in migrations. Default 10 s; 0 waits for ever.
    #[serde(default = "default_lock_timeout", with = "humantime_serde")]
    pub lock_timeout: Duration,
    /// Whether the table of a result that is not there is created from the columns of its SELECT. Default
    /// `true`.
    #[serde(default = "default_create_tables")]
    pub create_tables: bool,
    /// A table of which more than this share of rows is refused, over an epoch and about a thousand rows
    /// before it, is at fault itself: nothing is diverted, and the flow stops. Up to 20 rows always are
    /// diverted. Percent; default 10; 100 diverts whatever is refused.
    #[serde(default = "default_max_refused_percent")]
    pub max_refused_percent: u8,
    /// How many failures in a row open the circuit breaker, for kinds of failures without a number of their
    /// own (docs/FAILURES.md). Default 5.
    #[serde(default = "default_breaker_failures")]
    pub breaker_failures: NonZeroU32,
    /// How long an open circuit breaker leaves the server alone. Default 30 s.
    #[serde(default = "default_breaker_pause", with = "humantime_serde")]
    pub breaker_pause: Duration,
    /// `disable` or `prefer` (the default); both connect without TLS, which this version lacks.
    #[serde(default)]
    pub sslmode: SslMode,
}

/// The `sslmode` words of libpq.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// A text that never shows in logs.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn default_schema() -> String {
    "public".to_owned()
}

fn default_application_name() -> String {
    "tidemark".to_owned()
}

fn default_create_tables() -> bool {
    true
}

fn default_max_refused_percent() -> u8 {
    10
}

fn default_breaker_failures() -> NonZeroU32 {
    NonZeroU32::new(CircuitBreaker::default().limit()).unwrap_or(NonZeroU32::MIN)
}

fn default_breaker_pause() -> Duration {
    CircuitBreaker::default().pause()
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_statement_timeout() -> Duration {
    Duration::from_secs(60)
}

fn default_lock_timeout() -> Duration {
    Duration::from_secs(10)
}

const NO_TLS: &str =
    "TLS is not supported yet; use sslmode = \"prefer\" or \"disable\" on a trusted network";

impl PostgresConfig {
    /// The defaults with a connection URL.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self {
            url: Some(Secret::new(url)),
            host: None,
            port: None,
            dbname: None,
            user: None,
            password: None,
            schema: default_schema(),
            application_name: default_application_name(),
            connect_timeout: default_connect_timeout(),
            statement_timeout: default_statement_timeout(),
            lock_timeout: default_lock_timeout(),
            create_tables: default_create_tables(),
            max_refused_percent: default_max_refused_percent(),
            breaker_failures: default_breaker_failures(),
            breaker_pause: default_breaker_pause(),
            sslmode: SslMode::default(),
        }
    }

    /// The circuit breaker that these options describe.
    pub fn breaker(&self) -> CircuitBreaker {
        CircuitBreaker::new(self.breaker_failures.get(), self.breaker_pause)
    }

    /// Everything that is wrong, each with its key; empty if it can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self.sslmode {
            SslMode::Disable | SslMode::Prefer => {}
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                problems.push(format!("sslmode: {NO_TLS}"));
            }
        }
        if self.max_refused_percent > 100 {
            let given = self.max_refused_percent;
            problems.push(format!("max_refused_percent: {given} is no percentage"));
        }
        if self.schema.is_empty() {
            problems.push("schema: must not be empty".to_owned());
        }
        match &self.url {
            Some(url) => self.url_problems(url, &mut problems),
            None => {
                let fields = [("host", &self.host), ("dbname", &self.dbname), ("user", &self.user)];
                for (key, _) in fields.into_iter().filter(|(_, value)| value.is_none()) {
                    problems.push(format!("{key}: missing (or give url)"));
                }
            }
        }
        problems
    }

    fn url_problems(&self, url: &Secret, problems: &mut Vec<String>) {
        let both = [
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("dbname", self.dbname.is_some()),
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
        ];
        for (key, _) in both.into_iter().filter(|(_, is_set)| *is_set) {
            problems.push(format!("{key}: excluded by url, which says the same"));
        }
        match url.expose().parse::<tokio_postgres::Config>() {
            Ok(parsed) if matches!(parsed.get_ssl_mode(), ClientSslMode::Require) => {
                problems.push(format!("url: sslmode=require: {NO_TLS}"));
            }
            Ok(_) => {}
            // The parser's own text could repeat a part of the password.
            Err(_) => problems.push(
                "url: is not a connection URL such as postgres://user@host:5432/dbname".to_owned(),
            ),
        }
    }

    /// What the client library needs.
    ///
    /// # Errors
    /// Every problem of [`Self::problems`].
    pub(super) fn client_config(&self) -> Result<tokio_postgres::Config, Vec<String>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut config = match &self.url {
            Some(url) => {
                url.expose().parse().map_err(|_| vec!["url: cannot be read".to_owned()])?
            }
            None => self.field_config(),
        };
        config.application_name(&self.application_name).connect_timeout(self.connect_timeout);
        config.ssl_mode(ClientSslMode::Disable);
        // A peer that vanished without a word is noticed in about this time, not in two hours.
        config.keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(4);
        config.tcp_user_timeout(Duration::from_secs(30));
        Ok(config)
    }

    fn field_config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.port(self.port.unwrap_or(5432));
        if let Some(host) = &self.host {
            config.host(host);
        }
        if let Some(dbname) = &self.dbname {
            config.dbname(dbname);
        }
        if let Some(user) = &self.user {
            config.user(user);
        }
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<PostgresConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn fields_and_defaults_reach_the_client() {
        let config = parsed("host = 'db'\ndbname = 'ods'\nuser = 'me'\npassword = 'pw'").unwrap();
        let client = config.client_config().unwrap();
        assert_eq!(client.get_ports(), [5432]);
        assert_eq!(client.get_password(), Some(b"pw".as_slice()));
        assert_eq!(client.get_application_name(), Some("tidemark"));
        assert_eq!(config.schema, "public");
        assert_eq!(config.statement_timeout, Duration::from_secs(60));
    }

    #[test]
    fn a_password_never_shows() {
        let text = "host = 'db'\ndbname = 'ods'\nuser = 'me'\npassword = 'hunter2'";
        assert!(!format!("{:?}", parsed(text).unwrap()).contains("hunter2"));
        let config = PostgresConfig::from_url("postgres://me:hunter2@db:notaport/ods");
        assert!(!format!("{config:?} {:?}", config.problems()).contains("hunter2"));
        assert_eq!(config.problems().len(), 1);
    }

    #[test]
    fn tls_is_refused_in_words() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let text = format!("url = 'postgres://me@db/ods'\nsslmode = '{mode}'");
            let problems = parsed(&text).unwrap().problems();
            assert_eq!(problems, [format!("sslmode: {NO_TLS}")]);
        }
        let config = PostgresConfig::from_url("postgres://me@db/ods?sslmode=require");
        assert!(config.problems()[0].starts_with("url: sslmode=require"));
    }

    #[test]
    fn all_problems_come_at_once() {
        let problems = parsed("schema = ''").unwrap().problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        let both = parsed("url = 'postgres://me@db/ods'\nhost = 'x'\nport = 1").unwrap();
        assert_eq!(both.problems().len(), 2);
        assert!(parsed("hots = 'typo'").is_err());
    }
}
