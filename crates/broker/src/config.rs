//! What a user of the broker can set. All of it has a default but passwords.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::BrokerError;
use super::queue::{Access, QueueSettings};

/// The development broker's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Default 127.0.0.1:55555.
    pub listen: SocketAddr,
    /// Where to answer questions about queues, by HTTP (SEMP v2, monitoring). Default: nowhere.
    pub semp_listen: Option<SocketAddr>,
    /// Directory of the spool; created if it is missing. Default `broker-data`.
    pub data_dir: PathBuf,
    /// User name -> password, or a table with password and permissions. Empty: any user may log
    /// in, which is accepted on a loopback address only.
    pub users: BTreeMap<String, User>,
    /// Connections above this number are refused with "Too Many Clients". Default 100.
    pub max_clients: usize,
    /// Bytes of the largest message; longer ones are refused one by one. Default 10 000 000.
    pub max_message_size: usize,
    /// Quota of queues that do not name their own, in MB of stored messages. Default 5000.
    pub default_queue_quota_mb: u32,
    /// Messages that a consumer flow may hold unacknowledged. Default 10 000.
    pub max_unacked_per_flow: u32,
    /// Bytes of a spool file before the next one is begun. Default 64 MiB.
    pub segment_size: u64,
    /// Ids that no message gets after each one, as on a broker whose other queues get them. Default 0.
    pub ids_between: u32,
    /// Seconds between two log lines about traffic, if there was any; 0 turns them off. Default 60.
    pub stats_interval_seconds: u64,
    /// Queues to create at start, or to bring up to date if they exist.
    pub queues: Vec<QueueConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 55555),
            semp_listen: None,
            data_dir: PathBuf::from("broker-data"),
            users: BTreeMap::new(),
            max_clients: 100,
            max_message_size: 10_000_000,
            default_queue_quota_mb: 5000,
            max_unacked_per_flow: 10_000,
            segment_size: 64 << 20,
            ids_between: 0,
            stats_interval_seconds: 60,
            queues: Vec::new(),
        }
    }
}

/// Segment positions are 32 bits, and one message may stand beyond the end.
const MAX_SEGMENT_SIZE: u64 = 1 << 30;
const MAX_MAX_MESSAGE_SIZE: usize = 1 << 30;

impl Config {
    /// Checks what serde cannot. No I/O.
    pub(super) fn validate(&self, listen: SocketAddr) -> Result<(), BrokerError> {
        let mut doors = std::iter::once(listen).chain(self.semp_listen);
        if self.users.is_empty()
            && let Some(listen) = doors.find(|door| !door.ip().is_loopback())
        {
            return Err(BrokerError::OpenToNetwork { listen });
        }
        let positive = [
            ("max_clients", self.max_clients as u64, u64::MAX),
            ("max_message_size", self.max_message_size as u64, MAX_MAX_MESSAGE_SIZE as u64),
            ("max_unacked_per_flow", u64::from(self.max_unacked_per_flow), u64::MAX),
            ("segment_size", self.segment_size, MAX_SEGMENT_SIZE),
        ];
        for (key, value, max) in positive {
            if value == 0 || value > max {
                return Err(BrokerError::OutOfRange { key, value, max });
            }
        }
        Ok(())
    }
}

/// A secret that never shows in logs.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Compares in a time that depends on the length alone.
    pub(super) fn matches(&self, candidate: &str) -> bool {
        let (secret, candidate) = (self.0.as_bytes(), candidate.as_bytes());
        let differences = secret.iter().zip(candidate).fold(0, |sum, (a, b)| sum | (a ^ b));
        secret.len() == candidate.len() && differences == 0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who may log in, and what for.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "UserForm")]
pub struct User {
    pub password: Password,
    /// May create and delete queues and change their subscriptions.
    pub provision: bool,
    /// May bind to queues.
    pub consume: bool,
    /// May publish.
    pub publish: bool,
}

impl From<Password> for User {
    fn from(password: Password) -> Self {
        Self { password, provision: true, consume: true, publish: true }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum UserForm {
    Password(Password),
    Table(UserTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserTable {
    password: Password,
    #[serde(default = "allowed")]
    provision: bool,
    #[serde(default = "allowed")]
    consume: bool,
    #[serde(default = "allowed")]
    publish: bool,
}

fn allowed() -> bool {
    true
}

impl From<UserForm> for User {
    fn from(form: UserForm) -> Self {
        match form {
            UserForm::Password(password) => password.into(),
            UserForm::Table(UserTable { password, provision, consume, publish }) => {
                Self { password, provision, consume, publish }
            }
        }
    }
}

/// A queue that exists from the start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueConfig {
    pub name: String,
    /// Subscriptions, with `*` and `>` as wildcards.
    #[serde(default)]
    pub topics: Vec<String>,
    #[serde(default)]
    pub access: Access,
    /// 0: not partitioned. Partitioned queues are non-exclusive.
    #[serde(default)]
    pub partitions: u32,
    #[serde(default)]
    pub quota_mb: Option<u32>,
    /// Redeliveries before a message goes to the dead-message queue; absent or 0: no limit.
    #[serde(default)]
    pub max_redelivery: Option<u32>,
    /// Absent: `#DEAD_MSG_QUEUE`. Messages are discarded if the queue does not exist.
    #[serde(default)]
    pub dead_message_queue: Option<String>,
}

impl QueueConfig {
    pub(super) fn settings(&self) -> QueueSettings {
        let is_partitioned = self.partitions > 0;
        QueueSettings {
            name: self.name.clone(),
            access: if is_partitioned { Access::NonExclusive } else { self.access },
            partitions: self.partitions,
            quota_mb: self.quota_mb,
            max_redelivery: self.max_redelivery.filter(|max| *max > 0),
            dead_message_queue: self.dead_message_queue.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn users_are_passwords_or_tables_and_never_shown() {
        let config = parse(
            r#"
            [users]
            all = "secret-1"
            some = { password = "secret-2", provision = false }
            "#,
        )
        .unwrap();
        assert!(config.users["all"].provision);
        assert!(!config.users["some"].provision && config.users["some"].consume);
        assert!(config.users["some"].password.matches("secret-2"));
        assert!(!config.users["some"].password.matches("secret-"));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(parse("max_client = 3").is_err());
        assert!(parse("[[queues]]\nname = \"q\"\ntopic = \"t\"").is_err());
        assert!(parse("[users]\na = { password = \"p\", admin = true }").is_err());
    }

    #[test]
    fn partitioned_queues_are_shared_and_no_limit_is_zero() {
        let config = parse("[[queues]]\nname = \"q\"\npartitions = 4\nmax_redelivery = 0").unwrap();
        let settings = config.queues[0].settings();
        assert_eq!(settings.access, Access::NonExclusive);
        assert_eq!((settings.partitions, settings.max_redelivery), (4, None));
        assert_eq!(settings.dead_message_queue(), "#DEAD_MSG_QUEUE");
    }

    #[test]
    fn an_open_broker_on_the_network_and_senseless_limits_are_refused() {
        let network = SocketAddr::from(([0, 0, 0, 0], 55555));
        let config = Config::default();
        assert!(config.validate(config.listen).is_ok());
        assert!(matches!(config.validate(network), Err(BrokerError::OpenToNetwork { .. })));
        let told = Config { semp_listen: Some(network), ..Config::default() };
        assert!(matches!(told.validate(told.listen), Err(BrokerError::OpenToNetwork { .. })));
        let users = BTreeMap::from([("u".to_owned(), Password::new("p").into())]);
        assert!(Config { users, ..Config::default() }.validate(network).is_ok());
        let config = Config { max_clients: 0, ..Config::default() };
        assert!(matches!(
            config.validate(config.listen),
            Err(BrokerError::OutOfRange { key: "max_clients", .. })
        ));
    }
}
