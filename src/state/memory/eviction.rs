//! When rows leave memory: those that have not changed for the ttl of their table, and the first that came when
//! memory is full. Results don't depend on it.

use crate::model::Upkeep;
use crate::state::error::StateError;
use crate::state::store::{Eviction, TableStore};
use crate::state::stores::{StateStores, micros};
use crate::state::time::Clock;

/// After how many updates it is looked at again.
const UPDATES_BETWEEN_CHECKS: usize = 500;

/// How long rows that no result needs stay, which their next changes may need: one hour of the source's clock.
const UNREAD_KEPT: i64 = 3_600_000_000;

/// How long deletes stay of tables without ttl: one hour of the source's clock.
const DELETES_KEPT: i64 = 3_600_000_000;

/// How full memory is after rows have left it because it was full, in hundredths.
const FILLED_AGAIN: usize = 80;

/// Tables, and how many of their rows have left memory.
pub type Evicted = Vec<(String, usize)>;

impl StateStores {
    /// Lets rows leave memory that the disk has, every 500 updates or when memory is full; to be called once at the end of every
    /// epoch.
    ///
    /// # Errors
    /// If Arrow can't process a batch.
    pub fn evict(&mut self, upkeep: Upkeep) -> Result<Evicted, StateError> {
        if self.updates < UPDATES_BETWEEN_CHECKS && !self.is_full(upkeep) {
            return Ok(Evicted::new());
        }
        self.updates = 0;
        self.evict_now(upkeep)
    }

    /// The same at once.
    ///
    /// # Errors
    /// As [`Self::evict`].
    pub fn evict_now(&mut self, upkeep: Upkeep) -> Result<Evicted, StateError> {
        let clock = self.clock();
        let surplus = self.surplus_share(upkeep);
        let mut evicted = Evicted::new();
        // What is being written may leave when it is there.
        if self.durable.is_running() {
            return Ok(evicted);
        }
        for at in 0..self.stores.len() {
            let eviction = self.eviction(&self.stores[at], clock, surplus);
            let store = &mut self.stores[at];
            let rows = store.evict(eviction)?;
            if rows > 0 {
                evicted.push((store.table().name.clone(), rows));
            }
        }
        Ok(evicted)
    }

    /// Whether rows and what results keep take more than they may.
    pub fn is_full(&self, upkeep: Upkeep) -> bool {
        self.excess(std::iter::once(("results", upkeep.bytes))).is_some()
    }

    /// Bytes of what results keep that are to leave because memory is full.
    pub fn surplus_upkeep(&self, upkeep: Upkeep) -> usize {
        if self.durable.is_running() {
            return 0;
        }
        self.surplus_share(upkeep).of(upkeep.may_leave)
    }

    /// Notes that memory is full of what the disk does not have: it is flushed as soon as it can be.
    pub fn note_full(&mut self, is_full: bool) {
        self.is_full_of_changes = is_full;
    }

    fn eviction(&self, store: &TableStore, clock: Clock, surplus: Share) -> Eviction {
        let options = &store.table().options;
        let unread = self.unread.contains(&store.table().name).then_some(UNREAD_KEPT);
        let ttl = options.ttl.map(micros).or(unread);
        let before = |kept: i64| clock.source.map_or(i64::MIN, |now| now.saturating_sub(kept));
        let deleted_before = before(ttl.unwrap_or(DELETES_KEPT));
        if !self.may_leave(store) {
            return Eviction { changed_before: None, surplus: 0, deleted_before };
        }
        let own = options.memory_limit.map_or(Share::NONE, |limit| {
            Share::beyond(limit.0 as usize, store.memory(), store.memory())
        });
        let surplus = surplus.max(own).of(store.len());
        Eviction { changed_before: ttl.map(before), surplus, deleted_before }
    }

    pub(super) fn may_leave(&self, store: &TableStore) -> bool {
        !self.resident.contains(&store.table().name)
    }

    /// The share of the rows that are to leave because memory is full.
    fn surplus_share(&self, upkeep: Upkeep) -> Share {
        let Some(limit) = self.memory_limit else { return Share::NONE };
        let stores = self.stores.iter();
        let rows: usize = stores.clone().map(TableStore::memory).sum();
        let evictable = stores.filter(|store| self.may_leave(store)).map(TableStore::memory);
        let evictable = evictable.sum::<usize>() + upkeep.may_leave;
        let views: usize = self.views().map(|(.., bytes)| bytes).sum();
        Share::beyond(limit.0 as usize, rows + views + upkeep.bytes, evictable)
    }
}

/// A part of the rows.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Share(f64);

impl Share {
    const NONE: Self = Self(0.0);

    /// What is to leave of `evictable` bytes so that what is `used` is below the limit again.
    fn beyond(limit: usize, used: usize, evictable: usize) -> Self {
        if used <= limit || evictable == 0 {
            return Self::NONE;
        }
        let surplus = used - limit / 100 * FILLED_AGAIN;
        Self((surplus as f64 / evictable as f64).min(1.0))
    }

    fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    fn of(self, rows: usize) -> usize {
        (self.0 * rows as f64).ceil() as usize
    }
}
