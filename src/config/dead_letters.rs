//! The `[dead_letters]` section, and the topics that dead letters are published to.

use std::time::Duration;

use serde::Deserialize;

/// Bytes of the longest topic that a broker takes.
const LONGEST_TOPIC: usize = 250;

/// The `[dead_letters]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterConfig {
    /// Publishes each dead letter to `topic_prefix/ORIGINAL TOPIC`, if the source is a broker. Default: true.
    pub publish: bool,
    /// Events of topics below it are dead letters that were published, and passed over. Default: `cdc/dlq`.
    pub topic_prefix: String,
    /// How long a letter is kept: after it was resolved, or after its last failure. Default: `7d`.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// Which letters are deleted after that. Default: `resolved`.
    pub expires: Expires,
}

/// Which letters `retention` is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expires {
    /// Those that were replayed or that something newer has made needless: an event is acknowledged, so that the letter
    /// is all that is left of it.
    #[default]
    Resolved,
    /// All that no replay is under way for, whatever became of them.
    All,
}

impl Default for DeadLetterConfig {
    fn default() -> Self {
        let (publish, topic_prefix) = (true, "cdc/dlq".to_owned());
        let retention = Duration::from_secs(7 * 24 * 3600);
        Self { publish, topic_prefix, retention, expires: Expires::default() }
    }
}

impl DeadLetterConfig {
    /// Everything that is wrong with it, each with its key; no I/O.
    pub fn problems(&self) -> Vec<String> {
        let prefix = &self.topic_prefix;
        let has_empty_level = prefix.split('/').any(str::is_empty);
        let mut problems = Vec::new();
        if has_empty_level || prefix.contains(['*', '>', '\0']) || prefix.len() > 100 {
            problems.push(format!(
                "topic_prefix: '{prefix}' is no topic of at most 100 bytes such as cdc/dlq"
            ));
        }
        if self.retention < Duration::from_secs(60) {
            problems.push("retention: must be at least 1 minute".to_owned());
        }
        problems
    }

    /// Whether an event of this topic is a dead letter that was published.
    pub fn is_own(&self, topic: &str) -> bool {
        let rest = topic.strip_prefix(&self.topic_prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Where a letter goes.
    pub fn topic(&self, original: &str) -> String {
        let mut topic = format!("{}/{}", self.topic_prefix, original.trim_matches('/'));
        if let Some(end) = (topic.len() > LONGEST_TOPIC).then_some(LONGEST_TOPIC) {
            let end = (0..=end).rev().find(|at| topic.is_char_boundary(*at)).unwrap_or(0);
            topic.truncate(end);
        }
        topic.trim_end_matches('/').replace('\0', "?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_goes_below_the_prefix_whatever_its_topic_is() {
        let config = DeadLetterConfig::default();
        assert_eq!(config.topic("cdc/oracle/A/B/insert"), "cdc/dlq/cdc/oracle/A/B/insert");
        assert_eq!(config.topic("/api/v1/orders"), "cdc/dlq/api/v1/orders");
        assert_eq!(config.topic(""), "cdc/dlq");
        let long = config.topic(&"ä".repeat(200));
        assert_eq!((long.len(), long.ends_with('ä')), (250, true));
        assert!(config.is_own("cdc/dlq/cdc/oracle") && !config.is_own("cdc/dlq2/x"));
    }

    #[test]
    fn wrong_settings_are_named() {
        let config: DeadLetterConfig =
            toml::from_str("topic_prefix = 'a//b'\nretention = '1s'\npublish = false").unwrap();
        let problems = config.problems();
        assert!(problems[0].contains("topic_prefix: 'a//b'"), "{problems:?}");
        assert!(problems[1].contains("retention"), "{problems:?}");
        assert_eq!(DeadLetterConfig::default().problems(), [""; 0]);
    }
}
