//! The `[sink.postgres]` section.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidemark_base::Secret;

use super::sslmode::{self, SslMode, Verifies};
use crate::resilience::CircuitBreaker;

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
    /// Whether the table of a result that is not there is created from the columns of its SELECT, that of a table
    /// that no file declares from its events, and columns for `new_columns = 'alter'`. Default `true`.
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
    /// Whether the connection is encrypted, and which servers are trusted. Default: what `url` says, else
    /// `verify-full`; without a `root_certificate`, `prefer` where the server is on this machine.
    pub sslmode: Option<SslMode>,
    /// A file with the certificates of trusted authorities, or the server's own self-signed one. Default:
    /// those of the operating system.
    pub root_certificate: Option<PathBuf>,
    /// A file with the certificate by which the server knows us, and those between it and its authority.
    pub client_certificate: Option<PathBuf>,
    /// A file with the private key of `client_certificate`.
    pub client_key: Option<PathBuf>,
    /// What a connection pooler in between keeps together. Default `auto`.
    #[serde(default)]
    pub pooler: Pooler,
}

/// What is sure to go to one server process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooler {
    /// A whole connection if there is no pooler, else a transaction. Each new connection is looked at.
    #[default]
    Auto,
    /// A whole connection: there is no pooler, or one in session mode.
    Session,
    /// A transaction, as with pgbouncer's `pool_mode = transaction`. Nothing is then kept on the server between
    /// transactions; each costs one more round trip.
    Transaction,
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
            sslmode: None,
            root_certificate: None,
            client_certificate: None,
            client_key: None,
            pooler: Pooler::default(),
        }
    }

    /// The circuit breaker that these options describe.
    pub fn breaker(&self) -> CircuitBreaker {
        CircuitBreaker::new(self.breaker_failures.get(), self.breaker_pause)
    }

    /// Everything that is wrong, each with its key; empty if it can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        self.tls_problems(&mut problems);
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
        if self.sslmode.is_some() && SslMode::of_url(url.expose()).is_some() {
            problems.push("sslmode: excluded by url, which also says one".to_owned());
        }
        // The parser's own text could repeat a part of the password.
        if self.parsed().is_err() {
            problems.push(
                "url: is not a connection URL such as postgres://user@host:5432/dbname".to_owned(),
            );
        }
    }

    fn tls_problems(&self, problems: &mut Vec<String>) {
        if self.client_certificate.is_some() != self.client_key.is_some() {
            problems.push("client_certificate, client_key: one without the other".to_owned());
        }
        let mode = self.effective_sslmode();
        if mode == SslMode::Disable && self.client_certificate.is_some() {
            problems.push("client_certificate: of no use with sslmode = \"disable\"".to_owned());
        }
        if self.root_certificate.is_some() && !mode.is_required() {
            let advice = "say sslmode = \"verify-full\", \"verify-ca\" or \"require\"";
            problems.push(format!("root_certificate: nothing would be checked by it; {advice}"));
        }
    }

    /// As the option or the URL says. Where none does, the server must prove who it is, unless nothing leaves this
    /// machine.
    pub(super) fn effective_sslmode(&self) -> SslMode {
        let of_url = || SslMode::of_url(self.url.as_ref()?.expose());
        self.sslmode.or_else(of_url).unwrap_or_else(|| {
            let is_plain = self.root_certificate.is_none() && self.is_local();
            if is_plain { SslMode::Prefer } else { SslMode::VerifyFull }
        })
    }

    /// `None`: any server is taken.
    pub(super) fn verifies(&self) -> Option<Verifies> {
        match self.effective_sslmode() {
            SslMode::Disable | SslMode::Prefer => None,
            SslMode::Require => self.root_certificate.as_ref().map(|_| Verifies::Authority),
            SslMode::VerifyCa => Some(Verifies::Authority),
            SslMode::VerifyFull => Some(Verifies::Host),
        }
    }

    /// Whether the password goes in clear text to no server, because any server would be taken.
    pub(super) fn guards_password(&self) -> bool {
        self.verifies().is_none() && !self.is_local()
    }

    /// What is allowed and had better not be.
    pub fn warning(&self) -> Option<String> {
        if self.verifies().is_some() || self.is_local() {
            return None;
        }
        let hosts = self.parsed().map(|parsed| sslmode::hosts(&parsed)).unwrap_or_default();
        let mode = self.effective_sslmode().word();
        Some(format!(
            "sslmode is \"{mode}\": whoever answers at {hosts} is taken for the server and gets all rows; say sslmode = \
             \"verify-full\", with root_certificate if the authority is your own"
        ))
    }

    fn is_local(&self) -> bool {
        self.parsed().is_ok_and(|parsed| sslmode::is_local(&parsed))
    }

    /// The URL, or the single fields.
    fn parsed(&self) -> Result<tokio_postgres::Config, tokio_postgres::Error> {
        match &self.url {
            Some(url) => sslmode::for_client(url.expose()).parse(),
            None => Ok(self.field_config()),
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
        let mut config = self.parsed().map_err(|_| vec!["url: cannot be read".to_owned()])?;
        config.application_name(&self.application_name).connect_timeout(self.connect_timeout);
        config.ssl_mode(self.effective_sslmode().of_client());
        if config.get_hosts().is_empty() {
            // The name that a certificate must be for.
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
        }
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
    use tokio_postgres::config::SslMode as ClientSslMode;

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
    fn what_is_checked_of_a_server_follows_sslmode() {
        let verifies = |more: &str| {
            let config = parsed(&format!("url = 'postgres://me@db/ods'\n{more}")).unwrap();
            assert_eq!(config.problems(), Vec::<String>::new(), "{more}");
            (config.client_config().unwrap().get_ssl_mode(), config.verifies())
        };
        let root = "root_certificate = '/ca.pem'";
        assert_eq!(verifies(""), (ClientSslMode::Require, Some(Verifies::Host)));
        assert_eq!(verifies("sslmode = 'prefer'"), (ClientSslMode::Prefer, None));
        assert_eq!(verifies("sslmode = 'disable'"), (ClientSslMode::Disable, None));
        let required = |verifies| (ClientSslMode::Require, verifies);
        assert_eq!(verifies("sslmode = 'require'"), required(None));
        let authority = Some(Verifies::Authority);
        assert_eq!(verifies(&format!("sslmode = 'require'\n{root}")), required(authority));
        assert_eq!(verifies("sslmode = 'verify-ca'"), required(authority));
        assert_eq!(verifies("sslmode = 'verify-full'"), required(Some(Verifies::Host)));
        let of_url = PostgresConfig::from_url("postgres://me@db/ods?sslmode=require");
        assert_eq!(of_url.effective_sslmode(), SslMode::Require);
    }

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is_unless_it_is_written_otherwise() {
        let config = |url: &str| PostgresConfig::from_url(url);
        let cases = [
            ("postgres://me:pw@db/ods", SslMode::VerifyFull, None),
            ("postgres://me:pw@db/ods?sslmode=verify-ca", SslMode::VerifyCa, None),
            ("postgres://me:pw@localhost/ods", SslMode::Prefer, None),
            ("host=/run/postgresql user=me dbname=ods", SslMode::Prefer, None),
            ("postgres://me:pw@localhost,db/ods", SslMode::VerifyFull, None),
            ("postgres://me:pw@db/ods?sslmode=prefer", SslMode::Prefer, Some("at db is taken")),
            ("postgres://me:pw@db/ods?sslmode=require", SslMode::Require, Some("\"require\"")),
            ("postgres://me:pw@db/ods?sslmode=disable", SslMode::Disable, Some("\"disable\"")),
        ];
        for (url, mode, warns) in cases {
            let config = config(url);
            assert_eq!(config.problems(), [""; 0], "{url}");
            assert_eq!(config.effective_sslmode(), mode, "{url}");
            let warning = config.warning();
            assert_eq!(config.guards_password(), warns.is_some(), "{url}");
            assert_eq!(warning.is_some(), warns.is_some(), "{url}: {warning:?}");
            assert!(warning.unwrap_or_default().contains(warns.unwrap_or_default()), "{url}");
        }
        let local = config("postgres://me@localhost/ods");
        let trusting = PostgresConfig { root_certificate: Some("/ca.pem".into()), ..local };
        assert_eq!(trusting.effective_sslmode(), SslMode::VerifyFull);
        let by_address = config("hostaddr=10.0.0.7 user=me dbname=ods").client_config().unwrap();
        assert_eq!(sslmode::hosts(&by_address), "10.0.0.7");
    }

    #[test]
    fn tls_options_that_would_not_do_what_they_say_are_refused() {
        let cases = [
            (
                "sslmode = 'prefer'\nroot_certificate = '/ca.pem'",
                "root_certificate: nothing would be checked",
            ),
            ("client_key = '/key.pem'", "one without the other"),
            (
                "sslmode = 'disable'\nclient_key = '/k'\nclient_certificate = '/c'",
                "client_certificate: of no use",
            ),
        ];
        for (text, says) in cases {
            let config = parsed(&format!("url = 'postgres://me@db/ods'\n{text}")).unwrap();
            let problems = config.problems();
            assert!(problems.len() == 1 && problems[0].contains(says), "{text}: {problems:?}");
        }
        let mut config = PostgresConfig::from_url("postgres://me@db/ods?sslmode=require");
        config.sslmode = Some(SslMode::Disable);
        assert_eq!(config.problems(), ["sslmode: excluded by url, which also says one"]);
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
