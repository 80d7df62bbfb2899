//! How much memory rows and what is kept for results may take.
//!
//! Rows and groups leave memory when it is full and the disk has them. If what can't leave is too much, the pipeline
//! takes no more messages until the operator acts; the broker keeps them.

use std::path::Path;

use bytesize::ByteSize;

use crate::model::Upkeep;
use crate::state::memory_excess::MemoryExcess;
use crate::state::store::TableStore;
use crate::state::stores::StateStores;

/// So many of the largest are named.
const NAMED: usize = 4;

impl StateStores {
    /// How much all tables and results together may take.
    pub fn set_memory_limit(&mut self, limit: ByteSize) {
        self.memory_limit = Some(limit);
    }

    /// What takes too much and can't leave memory: rows that can do at the end of the next epoch, unless the disk took none.
    pub fn lasting_excess<'a>(
        &'a self,
        upkeep: impl Iterator<Item = (&'a str, Upkeep)>,
    ) -> Option<MemoryExcess> {
        let all_stay = self.engine.is_none() || self.has_failed_to_flush;
        let staying = |upkeep: Upkeep| if all_stay { upkeep.bytes } else { upkeep.resident() };
        let upkeep = upkeep.map(|(result, upkeep)| (result, staying(upkeep)));
        self.excess_of(|store| all_stay || !self.may_leave(store), upkeep)
    }

    /// Whether a table alone, or all tables and the results that are kept from them, take too much.
    /// `upkeep` are the bytes of each result.
    pub fn excess<'a>(
        &'a self,
        upkeep: impl Iterator<Item = (&'a str, usize)>,
    ) -> Option<MemoryExcess> {
        self.excess_of(|_| true, upkeep)
    }

    fn excess_of<'a>(
        &'a self,
        counts: impl Fn(&TableStore) -> bool,
        upkeep: impl Iterator<Item = (&'a str, usize)>,
    ) -> Option<MemoryExcess> {
        let stores = self.stores.iter().filter(|store| counts(store));
        let tables: Vec<(&TableStore, usize)> =
            stores.map(|store| (store, store.memory())).collect();
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
pub(in crate::state) fn default_limit() -> Option<ByteSize> {
    memory().map(|memory| ByteSize(memory.0 / 2))
}

/// What the container, or else the machine, has. `None` where neither says.
pub fn memory() -> Option<ByteSize> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let of_groups = group_limits(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"));
    let of_machine = memory_total(&read("/proc/meminfo"));
    of_groups.into_iter().chain(of_machine).min().map(ByteSize)
}

/// The limits of the control groups that this process is in, its own and those around it, in either version of the
/// kernel's interface. A container sees its own group as the root; a service of systemd is deep below it.
/// `membership` is `/proc/self/cgroup`.
fn group_limits(root: &Path, membership: &str) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in membership.lines() {
        // `4:memory:/a/b`, or in version 2 `0::/a/b`.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let own = root.join(group.trim_start_matches('/'));
        let groups = own.ancestors().take_while(|folder| folder.starts_with(&root));
        let texts = groups.filter_map(|folder| std::fs::read_to_string(folder.join(file)).ok());
        limits.extend(texts.filter_map(|text| text.trim().parse::<u64>().ok()));
    }
    limits
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

    #[test]
    fn the_limits_of_the_own_control_group_and_of_those_around_it_count() {
        let root = tempfile::tempdir().unwrap();
        let set = |folder: &str, file: &str, text: &str| {
            let folder = root.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(file), text).unwrap();
        };
        set("system.slice/tidemark.service", "memory.max", "268435456\n");
        set("system.slice", "memory.max", "max\n");
        let limits = |membership: &str| group_limits(root.path(), membership);
        assert_eq!(limits("0::/system.slice/tidemark.service\n"), [268_435_456]);
        assert_eq!(limits("0::/other\n"), [0u64; 0]);
        // A container, which sees its own group as the root.
        set("", "memory.max", "1000\n");
        assert_eq!(limits("0::/\n"), [1000]);

        set("memory/a/b", "memory.limit_in_bytes", "500\n");
        set("memory/a", "memory.limit_in_bytes", "400\n");
        assert_eq!(limits("9:cpu,cpuacct:/a\n4:memory:/a/b\n"), [500, 400]);
    }
}
