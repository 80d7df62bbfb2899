use serde::Deserialize;

/// The `[decode]` section: how events are written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeConfig {
    /// What stands in place of a LOB that a change did not touch: Debezium's option
    /// `unavailable.value.placeholder`, as text; its base64, hexadecimal and list forms are known by it.
    /// Default: `__debezium_unavailable_value`.
    pub unavailable_value: String,
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self { unavailable_value: "__debezium_unavailable_value".to_owned() }
    }
}

impl DecodeConfig {
    /// Everything that is wrong with it, each with its key.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.unavailable_value.is_empty() {
            problems.push("unavailable_value: an empty text can't stand for a value".to_owned());
        }
        problems
    }
}
