//! Names of metrics that the client keeps.

/// Counted by `kind`; the client raises `back_pressure`.
pub const ALERTS: &str = "cdc_alerts_total";
pub const QUEUE_MESSAGES: &str = "cdc_queue_messages";
pub const QUEUE_UNACKED: &str = "cdc_queue_unacked_messages";
pub const QUEUE_BYTES: &str = "cdc_queue_bytes";
pub const QUEUE_TOLD: &str = "cdc_queue_told";
pub const PRESSURE: &str = "cdc_back_pressure";
