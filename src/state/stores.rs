use std::sync::Arc;

use hashbrown::HashMap;

use super::expiry::{self, Horizon};
use super::{Folded, StateError, Store};
use crate::changelog::{Changelog, Table};

/// After how many updates ttl is looked at again.
const UPDATES_BETWEEN_CHECKS: usize = 500;

/// The source's time, as far as the events have told it. Microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    /// The newest change seen.
    pub source: Option<i64>,
    /// No event older than this is expected.
    pub watermark: Option<i64>,
}

/// How many rows left memory by ttl, per table.
pub type Expired = Vec<(String, usize)>;

/// All state stores of a pipeline, and the clock that their ttl goes by.
#[derive(Debug)]
pub struct StateStores {
    /// Referenced tables come before the tables that reference them.
    stores: Vec<Store>,
    by_name: HashMap<String, usize>,
    /// How long the longest window over a table's event time is, microseconds.
    window_spans: HashMap<String, i64>,
    watermark_delay: i64,
    clock: Clock,
    updates: usize,
}

impl StateStores {
    /// # Errors
    /// If a table references one that is not there, or has a key that can't be encoded.
    pub fn new(
        tables: &[Arc<Table>],
        watermark_delay: std::time::Duration,
    ) -> Result<Self, StateError> {
        let mut ordered = tables.to_vec();
        ordered.sort_by_key(|table| table.options.references.is_some());
        let stores: Vec<Store> =
            ordered.into_iter().map(Store::new).collect::<Result<_, StateError>>()?;
        let by_name: HashMap<String, usize> =
            stores.iter().enumerate().map(|(at, s)| (s.table().name.clone(), at)).collect();
        for store in &stores {
            if let Some(reference) = &store.table().options.references
                && !by_name.contains_key(&reference.table)
            {
                let (table, parent) = (store.table().name.clone(), reference.table.clone());
                return Err(StateError::UnknownParent { table, parent });
            }
        }
        let watermark_delay = micros(watermark_delay);
        let clock = Clock::default();
        Ok(Self {
            stores,
            by_name,
            window_spans: HashMap::new(),
            watermark_delay,
            clock,
            updates: 0,
        })
    }

    /// Keeps the rows of `table` in memory until windows of this length over them are closed.
    pub fn keep_for_windows(&mut self, table: &str, span: std::time::Duration) {
        self.window_spans.insert(table.to_owned(), micros(span));
    }

    /// Starts the clock where the ledger says that it was.
    pub fn set_watermark(&mut self, watermark: Option<i64>) {
        self.clock.watermark = self.clock.watermark.max(watermark);
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    pub fn stores(&mut self) -> impl Iterator<Item = &mut Store> {
        self.stores.iter_mut()
    }

    /// Applies the changes of one table and moves the clock.
    ///
    /// # Errors
    /// If Arrow can't process the batch.
    pub fn fold(&mut self, changelog: Changelog) -> Result<Folded, StateError> {
        self.advance(&changelog);
        self.updates += changelog.len();
        let at = self.by_name[&changelog.table.name];
        self.stores[at].fold(changelog)
    }

    fn advance(&mut self, changelog: &Changelog) {
        self.clock.source = self.clock.source.max(changelog.newest_source_ts());
        // Only a declared event time moves the watermark: it is the time that windows go by.
        if changelog.table.options.event_time.is_some() {
            let event_time = changelog.newest_event_time().map(|t| t - self.watermark_delay);
            self.clock.watermark = self.clock.watermark.max(event_time);
        }
    }

    /// Drops what ttl allows to drop, every 500 updates.
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub fn expire(&mut self) -> Result<Expired, StateError> {
        if self.updates < UPDATES_BETWEEN_CHECKS {
            return Ok(Vec::new());
        }
        self.updates = 0;
        let mut expired = Vec::new();
        for at in 0..self.stores.len() {
            let Some(horizon) = self.horizon(&self.stores[at]) else { continue };
            let (parents, store) = self.stores.split_at_mut(at);
            let store = &mut store[0];
            let parent = store.table().options.references.as_ref();
            let parent = parent.and_then(|r| parents.iter().find(|p| p.table().name == r.table));
            let dropped = expiry::expire(store, parent, horizon)?;
            if dropped > 0 {
                expired.push((store.table().name.clone(), dropped));
            }
        }
        Ok(expired)
    }

    fn horizon(&self, store: &Store) -> Option<Horizon> {
        let source = self.clock.source?;
        let ttl = store.table().options.ttl.map(micros);
        let span = self.window_spans.get(&store.table().name).copied().unwrap_or(0);
        Some(Horizon {
            changed_before: ttl.map(|ttl| source.saturating_sub(ttl)),
            event_before: self.clock.watermark.map_or(i64::MIN, |w| w.saturating_sub(span)),
            forget_deletes_before: source.saturating_sub(ttl.unwrap_or(DELETES_KEPT)),
        })
    }
}

/// How long a table without ttl remembers that a key was deleted: one hour of the source's clock.
const DELETES_KEPT: i64 = 3_600_000_000;

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
