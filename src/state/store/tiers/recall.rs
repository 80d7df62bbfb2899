//! What comes back from the disk: keys that change, and rows that are looked up.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use arrow::row::Rows;
use hashbrown::HashSet;

use crate::model::{Changelog, KeyBytes};
use crate::state::error::StateError;
use crate::state::store::on_disk::{DiskRow, DiskTable};
use crate::state::store::past::RememberedDelete;
use crate::state::store::place::{KeyEntry, RowPlace, Slot};
use crate::state::store::segment::RowSegment;
use crate::state::store::table_store::TableStore;

impl TableStore {
    /// Brings into memory what is known of the keys that a changelog is about to change: from here on memory alone
    /// says what becomes of them.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub(in crate::state) fn recall(&mut self, changelog: &Changelog) -> Result<(), StateError> {
        if self.disk.is_none() {
            return Ok(());
        }
        let recalled = if changelog.truncations.is_empty() {
            self.recall_changed(changelog)
        } else {
            self.recall_all()
        };
        recalled.map_err(|source| self.error(source))
    }

    fn recall_changed(&mut self, changelog: &Changelog) -> Result<(), ArrowError> {
        let keys = self.keys.encode(&changelog.batch)?;
        self.recall_keys(&keys)?;
        match self.table.options.group {
            Some(bound) => self.recall_members(changelog.batch.column(bound.column)),
            None => Ok(()),
        }
    }

    /// The members of groups, which a new one may cut.
    fn recall_members(&mut self, groups: &ArrayRef) -> Result<(), ArrowError> {
        let (Some(disk), Some(bound)) = (&self.disk, self.table.options.group) else {
            return Ok(());
        };
        let (mut asked, mut found) = (HashSet::new(), Vec::new());
        disk.find(&[bound.column], std::slice::from_ref(groups), false, |_, key| {
            if !self.entries.contains_key(key)
                && asked.insert(KeyBytes::from(key))
                && let Some(row) = disk.get(key)?
            {
                found.push((KeyBytes::from(key), row));
            }
            Ok(())
        })?;
        self.take_in(found)
    }

    /// The same for the keys that are in these columns.
    pub(in crate::state) fn recall_columns(&mut self, key: &[ArrayRef]) -> Result<(), StateError> {
        if self.disk.is_none() {
            return Ok(());
        }
        let recalled = self.keys.encode_columns(key).and_then(|keys| self.recall_keys(&keys));
        recalled.map_err(|source| self.error(source))
    }

    fn recall_keys(&mut self, keys: &Rows) -> Result<(), ArrowError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let (mut asked, mut found) = (HashSet::new(), Vec::new());
        for key in keys {
            let key = key.as_ref();
            if !self.entries.contains_key(key)
                && asked.insert(KeyBytes::from(key))
                && let Some(row) = disk.get(key)?
            {
                found.push((key.into(), row));
            }
        }
        self.take_in(found)
    }

    /// Brings rows into memory, the last ones by key first, until they take about `bytes` or `goes_on` says no.
    ///
    /// # Errors
    /// If the disk can't be read.
    pub(in crate::state) fn warm(
        &mut self,
        bytes: usize,
        goes_on: impl Fn() -> bool,
    ) -> Result<(), StateError> {
        let Some(disk) = self.disk.take() else { return Ok(()) };
        let limit = self.memory().saturating_add(bytes);
        let warmed = self.warm_from(&disk, limit, goes_on);
        self.disk = Some(disk);
        warmed.map_err(|source| self.error(source))
    }

    fn warm_from(
        &mut self,
        disk: &DiskTable,
        limit: usize,
        goes_on: impl Fn() -> bool,
    ) -> Result<(), ArrowError> {
        let mut last: Option<KeyBytes> = None;
        while self.memory() < limit && goes_on() {
            let part = disk.part_before(last.as_ref(), |key| self.entries.contains_key(key))?;
            let Some(lowest) = part.lowest else { break };
            last = Some(lowest);
            self.take_in_of(disk, part.rows)?;
            self.compact()?;
        }
        Ok(())
    }

    /// A truncate changes every key. From here on all is in memory, and the next flush gives it another place on disk.
    fn recall_all(&mut self) -> Result<(), ArrowError> {
        let Some(disk) = self.disk.take() else { return Ok(()) };
        let recalled = self.take_all_in(&disk);
        if recalled.is_err() {
            self.disk = Some(disk);
        }
        recalled
    }

    fn take_all_in(&mut self, disk: &DiskTable) -> Result<(), ArrowError> {
        let mut parts = Vec::new();
        let is_hidden = |key: &[u8]| self.entries.contains_key(key);
        disk.each_part(is_hidden, |part| {
            parts.push(part);
            Ok::<(), ArrowError>(())
        })?;
        parts.into_iter().try_for_each(|part| self.take_in_of(disk, part))
    }

    fn take_in(&mut self, found: Vec<(KeyBytes, DiskRow)>) -> Result<(), ArrowError> {
        let Some(disk) = self.disk.take() else { return Ok(()) };
        let taken = self.take_in_of(&disk, found);
        self.disk = Some(disk);
        taken
    }

    /// None of the keys is in memory.
    fn take_in_of(
        &mut self,
        disk: &DiskTable,
        found: Vec<(KeyBytes, DiskRow)>,
    ) -> Result<(), ArrowError> {
        let (deleted, found): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(_, row)| row.is_deleted());
        for (key, row) in deleted {
            let (at, position) = (row.changed_at, row.last.position);
            self.entries.insert(key.clone(), KeyEntry { last: row.last, slot: None });
            self.deleted.push(RememberedDelete { at, position, key });
        }
        if found.is_empty() {
            return Ok(());
        }
        let rows = disk.decode(found.iter().map(|(_, row)| row))?;
        let rows = self.pruned.apply(&self.schema, rows.columns().to_vec(), found.len())?;
        let changed_at = found.iter().map(|(_, row)| row.changed_at).collect();
        let segment = self.segments.len();
        let mut slots: Vec<Slot> = Vec::with_capacity(found.len());
        for (at, (key, row)) in found.into_iter().enumerate() {
            let slot = self.slots.take(RowPlace::new(segment, at));
            self.entries.insert(key, KeyEntry { last: row.last, slot: Some(slot) });
            slots.push(slot);
        }
        for index in &mut self.indexes {
            index.insert(&rows, &slots)?;
        }
        if let (Some(groups), Some(bound)) = (&mut self.groups, self.table.options.group) {
            let column = rows.column(bound.column);
            for (at, group) in
                groups.of(&rows)?.iter().enumerate().filter(|(at, _)| column.is_valid(*at))
            {
                groups.add(group.as_ref(), slots[at]);
            }
        }
        self.live_rows += slots.len();
        let mut rows = RowSegment::new(rows, changed_at);
        rows.slots = slots;
        self.segments.push(rows);
        Ok(())
    }

    /// The rows on disk whose columns hold one of the keys, each with the number of the key.
    pub(in crate::state::store) fn on_disk(
        &self,
        lookup: &SortedLookup,
    ) -> Result<Vec<(u32, DiskRow)>, ArrowError> {
        let Some(disk) = &self.disk else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut add = |at: u32, key: &[u8]| {
            if !self.entries.contains_key(key)
                && let Some(row) = disk.get(key)?.filter(|row| !row.is_deleted())
            {
                found.push((at, row));
            }
            Ok::<(), ArrowError>(())
        };
        if let Some(keys) = self.key_of(lookup) {
            for (at, key) in self.keys.encode_columns(&keys)?.iter().enumerate() {
                add(at as u32, key.as_ref())?;
            }
        } else {
            let SortedLookup { columns, keys, nulls_match } = lookup;
            disk.find(columns, keys, *nulls_match, add)?;
        }
        Ok(found)
    }

    /// Rows that were found on disk.
    pub(in crate::state::store) fn decoded(
        &self,
        found: &[(u32, DiskRow)],
        projection: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        let decode = |disk: &DiskTable| disk.decode(found.iter().map(|(_, row)| row));
        match &self.disk {
            Some(disk) => decode(disk)?.project(projection),
            None => self.rows_at(&[], projection),
        }
    }

    /// All rows that are on disk alone, in parts.
    pub(in crate::state::store) fn scan_disk(
        &self,
        visit: &mut dyn FnMut(RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<(), ArrowError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        disk.each_part(
            |key| self.entries.contains_key(key),
            |mut part| {
                part.retain(|(_, row)| !row.is_deleted());
                visit(disk.decode(part.iter().map(|(_, row)| row))?)
            },
        )
    }
}

/// A look-up whose columns rise, and whose keys have the columns' types.
#[derive(Debug)]
pub(in crate::state::store) struct SortedLookup {
    pub(in crate::state::store) columns: Vec<usize>,
    pub(in crate::state::store) keys: Vec<ArrayRef>,
    pub(in crate::state::store) nulls_match: bool,
}
