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
    /// Whether events can be read.
    Decode,
    Checkpoint,
    /// Delivery to the REST API.
    Rest,
    /// Room for what waits for it.
    Outbox,
    /// Publishing them.
    #[serde(rename = "dead_letters")]
    DeadLetters,
    /// Transforms that wait for a column, a table or their target.
    Sql,
    /// SQL files that were edited, and are refused.
    Edit,
}

/// Whether the processor does its work, and what stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Readiness {
    pub ready: bool,
    /// A sentence for each part that has something to say.
    pub conditions: BTreeMap<Condition, String>,
}

/// What must be up before the processor is ready the first time; checkpoints may be at fault, but not unknown.
const STARTING: [Condition; 4] =
    [Condition::Source, Condition::Target, Condition::State, Condition::Checkpoint];

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
    /// A health that waits for the parts that each start brings up.
    pub fn starting() -> Self {
        let health = Self::default();
        for part in STARTING {
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

    /// The part is at fault; processing goes on, also if the part had blocked it.
    pub fn degrade(&self, part: Condition, reason: impl Into<String>) {
        let mut parts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        parts.blocked.remove(&part);
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
    fn it_is_ready_when_every_part_is_up() {
        let health = Health::starting();
        for part in STARTING {
            assert!(!health.readiness().ready, "{part:?}");
            health.clear(part);
        }
        assert_eq!(health.readiness(), Readiness { ready: true, conditions: BTreeMap::new() });
    }

    #[test]
    fn a_part_that_starts_at_fault_blocks_no_longer() {
        let health = Health::default();
        health.block(Condition::Checkpoint, "starting");
        health.degrade(Condition::Checkpoint, "no such bucket");
        let readiness = health.readiness();
        assert!(readiness.ready);
        assert_eq!(readiness.conditions[&Condition::Checkpoint], "no such bucket");
        health.clear(Condition::Checkpoint);
        assert_eq!(health.readiness().conditions, BTreeMap::new());
    }
}
