//! The `[batch]` section: when a micro-batch closes.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::state::memory;

/// The `[batch]` section: when a micro-batch closes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Messages. At most half of the source's `max_unacked`, so that one batch can be collected
    /// while another is committed; it grows to that while messages come faster than they are processed.
    /// Default: 5000.
    pub max_messages: NonZeroUsize,
    /// Payload bytes. Default: 32 MiB, but not more than a 64th of the memory of the container or machine, because
    /// two batches are at work at a time, and the rows in large XML take some ten times its bytes.
    pub max_bytes: NonZeroUsize,
    /// Age of the oldest message. A batch also closes as soon as the commit before it is done.
    /// Default: 20 ms.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_messages: NonZeroUsize::new(5000).expect("is not 0"),
            max_bytes: default_batch_bytes(memory()),
            max_age: Duration::from_millis(20),
        }
    }
}

pub(super) fn default_batch_bytes(memory: Option<ByteSize>) -> NonZeroUsize {
    const MOST: u64 = 32 << 20;
    let share = memory.map_or(MOST, |memory| (memory.0 / 64).clamp(1 << 20, MOST));
    NonZeroUsize::new(share as usize).expect("is at least 1 MiB")
}

impl BatchConfig {
    /// Those for a source that may have `max_unacked` messages unacknowledged.
    pub fn limits(&self, max_unacked: Option<u32>) -> BatchLimits {
        let messages = self.max_messages.get();
        let half = max_unacked.map_or(0, |max_unacked| max_unacked as usize / 2);
        BatchLimits {
            messages,
            pressed_messages: messages.max(half),
            bytes: self.max_bytes.get(),
            age: self.max_age,
        }
    }
}

/// When a batch closes.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    pub messages: usize,
    /// The same while messages come faster than they are processed; not less.
    pub pressed_messages: usize,
    pub bytes: usize,
    pub age: Duration,
}
