//! The `[source]` section for a Solace queue.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use tidemark_base::Secret;
use tidemark_base::http_client::WebUrl;

use super::semp;

/// The `[source]` section with `kind = "solace"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolaceConfig {
    /// Broker address, `tcp://host:port` or `tcps://host:port`; several, separated by commas, for
    /// a redundant pair. Default `tcp://127.0.0.1:55555`.
    #[serde(default = "default_host")]
    pub host: String,
    /// Message VPN. Default `default`.
    #[serde(default = "default_vpn")]
    pub vpn: String,
    pub username: String,
    pub password: Secret,
    /// Name of the durable queue.
    pub queue: String,
    /// Creates the queue and adds `topics` to it if they are not there. Default false.
    #[serde(default)]
    pub provision: bool,
    /// Topic subscriptions of the queue; only used with `provision`. Default none.
    #[serde(default)]
    pub topics: Vec<String>,
    /// Access type of the queue; only used with `provision`. Default `exclusive`.
    #[serde(default)]
    pub access: Access,
    /// Messages that the broker may send ahead of the client's transport acknowledgement, 1 to
    /// 255. Default 255.
    #[serde(default = "default_window")]
    pub window: u8,
    /// Messages that may be delivered and not yet acknowledged; the queue has a limit of its own.
    /// Default 10000.
    #[serde(default = "default_max_unacked")]
    pub max_unacked: u32,
    /// Name of the connection, unique on the broker. Default: the library makes one.
    #[serde(default)]
    pub client_name: Option<String>,
    /// How long one connection attempt may take. Default `30s`.
    #[serde(default = "default_connect_timeout", with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Pause between connection attempts, which never end; at most `60s`. Default `3s`.
    #[serde(default = "default_reconnect_wait", with = "humantime_serde")]
    pub reconnect_wait: Duration,
    /// Interval of keep-alive messages; three unanswered ones are a lost connection. At least
    /// `50ms`. Default `3s`.
    #[serde(default = "default_keep_alive", with = "humantime_serde")]
    pub keep_alive: Duration,
    /// Payloads that may be received and not yet taken by a batch, from `1MiB`; beyond it the flow is stopped, and
    /// what is under way, up to `window` messages, still comes. Default: as much as a batch, `batch.max_bytes`.
    #[serde(default)]
    pub max_buffered: Option<ByteSize>,
    /// Where the broker tells how many messages wait. Default: not asked.
    #[serde(default)]
    pub semp: Option<SempConfig>,
}

/// The `[source.semp]` section: the broker's management interface (SEMP v2, monitoring).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SempConfig {
    /// As in `http://broker:8080`.
    pub url: WebUrl,
    /// A user who may read.
    pub username: String,
    pub password: Secret,
    /// How often to ask, at least `1s`: a broker answers ten such questions a second, of all clients. Default `10s`.
    #[serde(default = "default_interval", with = "humantime_serde")]
    pub interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// One consumer reads, others stand by. Keeps the order.
    #[default]
    Exclusive,
    /// Consumers share the messages.
    NonExclusive,
}

impl SempConfig {
    pub fn access(&self) -> semp::SempAccess<'_> {
        semp::SempAccess {
            url: self.url.url(),
            username: &self.username,
            password: self.password.expose(),
        }
    }
}

impl SolaceConfig {
    /// Everything that is wrong with it, each with its key; no I/O.
    pub fn problems(&self) -> Vec<String> {
        let second = Duration::from_secs(1);
        let checks = [
            (self.host.is_empty(), "source.host is empty"),
            (self.username.is_empty(), "source.username is empty"),
            (self.queue.is_empty(), "source.queue is empty"),
            (self.window == 0, "source.window is 0; it must be 1 to 255"),
            (self.max_unacked == 0, "source.max_unacked is 0; it must be at least 1"),
            (
                !self.provision && !self.topics.is_empty(),
                "source.topics is set without source.provision = true, so they are not added to the queue",
            ),
            (self.connect_timeout.is_zero(), "source.connect_timeout is 0"),
            (self.reconnect_wait > 60 * second, "source.reconnect_wait is above 60s"),
            (self.keep_alive < second / 20, "source.keep_alive is below 50ms"),
            (
                self.max_buffered.is_some_and(|bytes| bytes < ByteSize::mib(1)),
                "source.max_buffered is below 1MiB",
            ),
            (
                self.semp.as_ref().is_some_and(|semp| semp.interval < second),
                "source.semp.interval is below 1s",
            ),
        ];
        checks
            .iter()
            .filter(|(is_wrong, _)| *is_wrong)
            .map(|(_, text)| (*text).to_owned())
            .collect()
    }
}

fn default_host() -> String {
    "tcp://127.0.0.1:55555".to_owned()
}

fn default_vpn() -> String {
    "default".to_owned()
}

fn default_window() -> u8 {
    255
}

fn default_max_unacked() -> u32 {
    10_000
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_reconnect_wait() -> Duration {
    Duration::from_secs(3)
}

fn default_interval() -> Duration {
    Duration::from_secs(10)
}

fn default_keep_alive() -> Duration {
    Duration::from_secs(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: &str = "username = 'u'\npassword = 'hush'\nqueue = 'q'\n";

    fn parse(more: &str) -> Result<SolaceConfig, toml::de::Error> {
        toml::from_str(&format!("{SHORTEST}{more}"))
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = parse("").unwrap();
        assert_eq!(config.host, "tcp://127.0.0.1:55555");
        assert_eq!((config.window, config.max_unacked), (255, 10_000));
        assert_eq!(config.connect_timeout, Duration::from_secs(30));
        assert_eq!(config.access, Access::Exclusive);
        assert_eq!(config.problems(), Vec::<String>::new());
    }

    #[test]
    fn a_password_never_shows() {
        let shown = format!("{:?}", parse("").unwrap());
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("password: ***"), "{shown}");
    }

    #[test]
    fn the_management_interface_is_asked_every_ten_seconds() {
        let section = "[semp]\nurl = 'http://broker:8080'\nusername = 'u'\npassword = 'hush'\n";
        let config = parse(section).unwrap();
        assert_eq!(config.semp.as_ref().unwrap().interval, Duration::from_secs(10));
        assert!(!format!("{config:?}").contains("hush"));
        let often = parse(&format!("{section}interval = '1ms'")).unwrap();
        assert_eq!(often.problems(), ["source.semp.interval is below 1s"]);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = parse("pasword = 'x'").unwrap_err().to_string();
        assert!(error.contains("pasword"), "{error}");
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let config =
            parse("window = 0\nkeep_alive = '1ms'\ntopics = ['a/>']\nmax_buffered = '1KiB'")
                .unwrap();
        let problems = config.problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].contains("source.window"));
    }

    #[test]
    fn access_is_written_with_a_dash() {
        assert_eq!(parse("access = 'non-exclusive'").unwrap().access, Access::NonExclusive);
    }
}
