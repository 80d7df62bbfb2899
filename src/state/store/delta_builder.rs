//! Which keys a fold touched, and how their rows were before it.

use hashbrown::HashMap;

use super::place::{KeyEntry, RowPlace, Slot};
use crate::model::KeyBytes;

/// The keys that one call touched, with their rows from before it: what a delta is made of.
#[derive(Debug, Default)]
pub(super) struct DeltaBuilder(HashMap<KeyBytes, Touch>);

#[derive(Debug)]
pub(super) struct Touch {
    /// The slot that the key had or got.
    pub(super) slot: Option<Slot>,
    pub(super) before: Option<RowPlace>,
    /// What was known of the key.
    pub(super) entry: Option<KeyEntry>,
}

impl DeltaBuilder {
    /// Only the first time counts: later rows of the key are of this call.
    pub(super) fn note(&mut self, key: &[u8], entry: Option<KeyEntry>, before: Option<RowPlace>) {
        if !self.0.contains_key(key) {
            let slot = entry.and_then(|entry| entry.slot);
            self.0.insert(key.into(), Touch { slot, before, entry });
        }
    }

    /// The slot that a key keeps through this call, even if it was deleted in between.
    pub(super) fn slot(&self, key: &[u8]) -> Option<Slot> {
        self.0.get(key).and_then(|touch| touch.slot)
    }

    pub(super) fn set_slot(&mut self, key: &[u8], slot: Slot) {
        if let Some(touch) = self.0.get_mut(key) {
            touch.slot = Some(slot);
        }
    }

    pub(super) fn into_touches(self) -> impl Iterator<Item = (KeyBytes, Touch)> {
        self.0.into_iter()
    }
}
