//! Whether the processor does its work, as `/ready` and `/health` show it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A part of the processor whose state decides on readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    Source,
    Target,
    State,
    Memory,
    Checkpoint,
    /// Delivery to the REST API.
    Rest,
    /// Publishing them.
    #[serde(rename = "dead_letters")]
    DeadLetters,
    /// Transforms that wait for a column, a table or their target.
    Sql,
}

/// Whether the processor does its work, and what stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Readiness {
    pub ready: bool,
    /// A sentence for each part that has something to say.
    pub conditions: BTreeMap<Condition, String>,
}

#[derive(Debug, Default)]
struct ConditionReasons {
    /// ConditionReasons that stop the work.
    blocked: BTreeMap<Condition, String>,
    /// ConditionReasons that are at fault while the work goes on.
    degraded: BTreeMap<Condition, String>,
}

/// Shared between the parts that report and the page that shows it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<RwLock<ConditionReasons>>);

impl Health {
    /// A health that waits for source, target and state.
    pub fn starting() -> Self {
        let health = Self::default();
        for part in [Condition::Source, Condition::Target, Condition::State] {
            health.block(part, "starting");
        }
        health
    }

    /// The part is fine.
    pub fn clear(&self, part: Condition) {
        let mut parts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        parts.blocked.remove(&part);
        parts.degraded.remove(&part);
    }

    /// Nothing is processed until the part is fine again.
    pub fn block(&self, part: Condition, reason: impl Into<String>) {
        let mut parts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        parts.blocked.insert(part, reason.into());
    }

    /// The part is at fault; processing goes on.
    pub fn degrade(&self, part: Condition, reason: impl Into<String>) {
        let mut parts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        parts.degraded.insert(part, reason.into());
    }

    pub fn readiness(&self) -> Readiness {
        let parts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut conditions = parts.degraded.clone();
        conditions.extend(parts.blocked.clone());
        Readiness { ready: parts.blocked.is_empty(), conditions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degraded_part_is_shown_and_does_not_block() {
        let health = Health::default();
        health.degrade(Condition::Checkpoint, "disk full");
        let readiness = health.readiness();
        assert!(readiness.ready);
        assert_eq!(readiness.conditions[&Condition::Checkpoint], "disk full");
    }

    #[test]
    fn it_is_ready_when_nothing_blocks() {
        let health = Health::starting();
        assert!(!health.readiness().ready);
        for part in [Condition::Source, Condition::Target, Condition::State] {
            health.clear(part);
        }
        assert_eq!(health.readiness(), Readiness { ready: true, conditions: BTreeMap::new() });
    }
}
