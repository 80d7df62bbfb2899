//! The `sslmode` words of libpq: which servers they take, and which one holds where none is written.

use std::net::IpAddr;

use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode as ClientSslMode};

/// The `sslmode` words of libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it; whoever the server is.
    Prefer,
    /// TLS, with any server; with a `root_certificate`, as `verify-ca`.
    Require,
    /// TLS, with a server whose certificate a trusted authority has signed.
    VerifyCa,
    /// The same, and the certificate is for the host that we connect to.
    VerifyFull,
}

/// What is checked of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verifies {
    /// Who signed it.
    Authority,
    /// That, and that it is for the host.
    Host,
}

impl SslMode {
    const ALL: [Self; 5] =
        [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// As it is written.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether a server without TLS is refused.
    pub(super) fn is_required(self) -> bool {
        match self {
            Self::Disable | Self::Prefer => false,
            Self::Require | Self::VerifyCa | Self::VerifyFull => true,
        }
    }

    /// As the client library knows it: who the server is, is looked at by the TLS session.
    pub(super) fn of_client(self) -> ClientSslMode {
        match self {
            Self::Disable => ClientSslMode::Disable,
            Self::Prefer => ClientSslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => ClientSslMode::Require,
        }
    }

    /// What a URL, or a list of `key=value`, says.
    pub(super) fn of_url(url: &str) -> Option<Self> {
        let said = word_of_url(url)?;
        Self::ALL.into_iter().find(|mode| mode.word() == said)
    }
}

/// The word after `sslmode=`, whether there is such a mode or not.
fn word_of_url(url: &str) -> Option<&str> {
    let mut parts = url.split(['?', '&', ' ', '\n', '\t']);
    parts.find_map(|part| part.strip_prefix("sslmode="))
}

/// The URL with a word that the client library knows: it has none for verified servers.
pub(super) fn for_client(url: &str) -> String {
    match SslMode::of_url(url) {
        Some(mode @ (SslMode::VerifyCa | SslMode::VerifyFull)) => {
            url.replacen(&format!("sslmode={}", mode.word()), "sslmode=require", 1)
        }
        _ => url.to_owned(),
    }
}

/// Whether the connection leaves this machine by none of its addresses.
pub(super) fn is_local(config: &Config) -> bool {
    let is_loopback = |name: &str| {
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let hosts = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => is_loopback(name),
        Host::Unix(_) => true,
    });
    hosts && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// The hosts as a text for messages.
pub(super) fn hosts(config: &Config) -> String {
    let names = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    });
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_a_mode_where_it_stands_as_an_option() {
        for mode in SslMode::ALL {
            let word = mode.word();
            let url = format!("postgres://me:sslmode@db/ods?connect_timeout=1&sslmode={word}");
            assert_eq!(SslMode::of_url(&url), Some(mode));
            assert_eq!(SslMode::of_url(&format!("host=db sslmode={word} user=me")), Some(mode));
            for_client(&url).parse::<Config>().unwrap();
        }
        assert_eq!(SslMode::of_url("postgres://me:sslmode=require@db/ods"), None);
    }

    #[test]
    fn what_stays_on_this_machine_is_local() {
        let local = |url: &str| is_local(&url.parse().unwrap());
        for url in [
            "postgres://me@localhost/ods",
            "postgres://me@127.0.0.2:6432/ods",
            "postgres://me@[::1]/ods",
            "postgres://me@%2Frun%2Fpostgresql/ods",
            "host=/run/postgresql user=me",
            "hostaddr=127.0.0.1 user=me",
        ] {
            assert!(local(url), "{url}");
        }
        for url in [
            "postgres://me@db/ods",
            "postgres://me@10.0.0.7/ods",
            "postgres://me@localhost,db/ods",
            "host=db hostaddr=127.0.0.1 user=me",
            "host=localhost hostaddr=10.0.0.7 user=me",
            "postgres://me@localhost.example/ods",
        ] {
            assert!(!local(url), "{url}");
        }
    }
}
