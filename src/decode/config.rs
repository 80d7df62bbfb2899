//! The `[decode]` section: how events are written, and what becomes of unknown tables.

use serde::Deserialize;

use super::debezium::TopicPattern;

/// The `[decode]` section: how events are written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeConfig {
    /// What stands in place of a LOB that a change did not touch: Debezium's option
    /// `unavailable.value.placeholder`, as text; its base64, hexadecimal and list forms are known by it.
    /// Default: `__debezium_unavailable_value`.
    pub unavailable_value: String,
    /// Which table a topic is about, as in `cdc/*/{schema}/{table}`, for events that name none in their body or
    /// user properties; `*` and the names stand for one level or a part of it. Without `{schema}`, the one
    /// declared table of that name is it. Default: topics say nothing.
    pub topic: Option<String>,
    /// What becomes of events of tables that no file of `sql/tables` declares: `dlq`, `register` or `ignore`.
    /// Default: `dlq`.
    pub unknown_tables: UnknownTables,
}

/// What becomes of events of tables that no file declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownTables {
    /// They are dead letters.
    #[default]
    Dlq,
    /// The table is registered with what its first events say about its columns and its key, and treated
    /// as a declared one from then on.
    Register,
    /// They are counted and acknowledged, and nothing is kept of them.
    Ignore,
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self {
            unavailable_value: "__debezium_unavailable_value".to_owned(),
            topic: None,
            unknown_tables: UnknownTables::default(),
        }
    }
}

impl DecodeConfig {
    /// Everything that is wrong with it, each with its key.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.unavailable_value.is_empty() {
            problems.push("unavailable_value: an empty text can't stand for a value".to_owned());
        }
        if let Some(Err(problem)) = self.topic.as_deref().map(TopicPattern::parse) {
            problems.push(format!("topic: {problem}"));
        }
        problems
    }

    /// `None` too if it is wrong, which [`Self::problems`] tells.
    pub(super) fn topic_pattern(&self) -> Option<TopicPattern> {
        TopicPattern::parse(self.topic.as_deref()?).ok()
    }
}
