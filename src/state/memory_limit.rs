//! How much memory rows and what is kept for results may take.
//!
//! Who exceeds it is not made smaller: dropping rows that results still need would make these wrong. The
//! pipeline takes no more messages until somebody acts; the broker keeps them.

use std::path::Path;

use bytesize::ByteSize;

use super::memory_excess::MemoryExcess;
use super::store::TableStore;
use super::stores::StateStores;

/// So many of the largest are named.
const NAMED: usize = 4;

impl StateStores {
    /// How much all tables and results together may take.
    pub fn set_memory_limit(&mut self, limit: ByteSize) {
        self.memory_limit = Some(limit);
    }

    /// Whether a table alone, or all tables and the results that are kept from them, take too much.
    /// `upkeep` are the bytes of each result.
    pub fn excess<'a>(
        &'a self,
        upkeep: impl Iterator<Item = (&'a str, usize)>,
    ) -> Option<MemoryExcess> {
        let tables: Vec<(&TableStore, usize)> =
            self.stores.iter().map(|store| (store, store.memory())).collect();
        for (store, used) in &tables {
            let limit = store.table().options.memory_limit;
            if let Some(limit) = limit.filter(|limit| *used as u64 > limit.0) {
                let (table, used) = (Some(store.table().name.clone()), ByteSize(*used as u64));
                return Some(MemoryExcess { table, used, limit, largest: Vec::new() });
            }
        }
        let limit = self.memory_limit?;
        let named = tables.iter().map(|(store, used)| (store.table().name.as_str(), *used));
        let views = self.views().map(|(name, _, _, used)| (name, used));
        let mut all: Vec<(String, ByteSize)> = named
            .chain(views)
            .chain(upkeep)
            .map(|(name, used)| (name.to_owned(), ByteSize(used as u64)))
            .collect();
        let used = ByteSize(all.iter().map(|(_, used)| used.0).sum());
        if used <= limit {
            return None;
        }
        all.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        all.truncate(NAMED);
        Some(MemoryExcess { table: None, used, limit, largest: all })
    }
}

/// Half of the memory: the rest is for messages on their way, queries and the allocator.
pub fn default_limit() -> Option<ByteSize> {
    memory().map(|memory| ByteSize(memory.0 / 2))
}

/// What the container, or else the machine, has. `None` where neither says.
pub fn memory() -> Option<ByteSize> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let of_container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(|path| read(path).trim().parse::<u64>().ok());
    let of_machine = memory_total(&read("/proc/meminfo"));
    of_container.into_iter().chain(of_machine).min().map(ByteSize)
}

/// `MemTotal:       24000000 kB`
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_how_much_it_has() {
        let meminfo = "MemTotal:       24576000 kB\nMemFree:        1 kB\n";
        assert_eq!(memory_total(meminfo), Some(24_576_000 * 1024));
        assert_eq!(memory_total("nothing"), None);
        assert!(default_limit().is_some_and(|limit| limit > ByteSize::mib(64)));
    }
}
