//! When rows leave memory: those that have not changed for the ttl of their table, and the first that came when
//! memory is full. Results don't depend on it.

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
    /// Moves rows to the disk, every 500 updates or when memory is full; to be called once at the end of every epoch. `upkeep` are the bytes
    /// that results keep.
    ///
    /// # Errors
    /// If the disk can't be written: what has not left stays in memory.
    pub fn evict(&mut self, upkeep: usize) -> Result<Evicted, StateError> {
        let is_full = self.excess(std::iter::once(("results", upkeep))).is_some();
        if self.updates < UPDATES_BETWEEN_CHECKS && !is_full {
            return Ok(Evicted::new());
        }
        self.updates = 0;
        self.evict_now(upkeep)
    }

    /// The same at once.
    ///
    /// # Errors
    /// As [`Self::evict`].
    pub fn evict_now(&mut self, upkeep: usize) -> Result<Evicted, StateError> {
        let evicted = self.move_out(upkeep);
        self.has_failed_to_evict = evicted.is_err();
        evicted
    }

    fn move_out(&mut self, upkeep: usize) -> Result<Evicted, StateError> {
        if self.engine.is_none() {
            return Ok(Evicted::new());
        }
        let clock = self.clock();
        let surplus = self.surplus_share(upkeep);
        self.note_newest_on_disk()?;
        let mut evicted = Evicted::new();
        for at in 0..self.stores.len() {
            let eviction = self.eviction(&self.stores[at], clock, surplus);
            if self.stores[at].is_empty() {
                continue;
            }
            self.attach_late(at)?;
            let store = &mut self.stores[at];
            let rows = store.evict(eviction)?;
            if rows > 0 {
                evicted.push((store.table().name.clone(), rows));
            }
        }
        Ok(evicted)
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
    fn surplus_share(&self, upkeep: usize) -> Share {
        let Some(limit) = self.memory_limit else { return Share::NONE };
        let stores = self.stores.iter();
        let rows: usize = stores.clone().map(TableStore::memory).sum();
        let evictable = stores.filter(|store| self.may_leave(store)).map(TableStore::memory).sum();
        let views: usize = self.views().map(|(.., bytes)| bytes).sum();
        Share::beyond(limit.0 as usize, rows + views + upkeep, evictable)
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
