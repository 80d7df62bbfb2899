//! The bound of groups: a group that grows beyond it keeps its newest rows.

use arrow::array::Array;
use arrow::error::ArrowError;

use super::delta_builder::DeltaBuilder;
use super::past::RememberedDelete;
use super::place::{KeyEntry, RowPlace, Slot};
use super::table_store::TableStore;
use crate::model::{KeyBytes, Position};

impl TableStore {
    /// The group of each row of a segment; `None` if the table has no groups.
    pub(super) fn group_keys(
        &self,
        segment: usize,
    ) -> Result<Option<arrow::row::Rows>, ArrowError> {
        let rows = &self.segments[segment].batch;
        self.groups.as_ref().map(|groups| groups.of(rows)).transpose()
    }

    /// NULL is no value to share.
    pub(super) fn is_without_group(&self, place: RowPlace) -> bool {
        let column = self.table.options.group.map(|bound| bound.column);
        column.is_none_or(|at| self.segments[place.segment()].batch.column(at).is_null(place.row()))
    }

    /// Adds a row that is in its place to its group; how many rows leave memory for it.
    pub(super) fn join_group(
        &mut self,
        group: &[u8],
        place: RowPlace,
        touched: &mut DeltaBuilder,
    ) -> Result<usize, ArrowError> {
        let bound = self.table.options.group;
        let (Some(groups), Some(bound)) = (&mut self.groups, bound) else { return Ok(0) };
        let slot = self.segments[place.segment()].slots[place.row()];
        if groups.add(group, slot) <= bound.limit {
            return Ok(0);
        }
        self.has_forgotten = true;
        let mut members = self.members(group)?;
        members.truncate(members.len().saturating_sub(bound.keep));
        for (_, key, slot) in &members {
            let entry = self.entries.remove(key);
            if let Some(groups) = &mut self.groups {
                groups.remove(group, *slot);
            }
            self.take_row(key, entry, touched);
            if let Some(KeyEntry { last, .. }) = entry.filter(|_| self.disk.is_some()) {
                // Memory hides what the disk may have of it.
                self.entries.insert(key.clone(), KeyEntry { last, slot: None });
                let (at, position) = (i64::MIN, last.position);
                self.deleted.push(RememberedDelete { at, position, key: key.clone() });
            }
        }
        Ok(members.len())
    }

    /// The members of a group, the oldest first.
    fn members(&self, group: &[u8]) -> Result<Vec<(Position, KeyBytes, Slot)>, ArrowError> {
        let slots = self.groups.as_ref().map(|groups| groups.members(group)).unwrap_or_default();
        let keys = self.rows_of(&slots, &self.table.key)?;
        let keys = self.keys.encode_columns(keys.columns())?;
        let member = |(key, slot): (arrow::row::Row<'_>, Slot)| {
            let entry = self.entries.get(key.as_ref())?;
            Some((entry.last.position, key.as_ref().into(), slot))
        };
        let mut members: Vec<_> = keys.iter().zip(slots).filter_map(member).collect();
        members.sort_unstable();
        Ok(members)
    }

    /// Adds a row to its group again, whatever the bound.
    pub(super) fn rejoin_group(&mut self, place: RowPlace) -> Result<(), ArrowError> {
        if self.is_without_group(place) {
            return Ok(());
        }
        let segment = &self.segments[place.segment()];
        let (row, slot) = (segment.batch.slice(place.row(), 1), segment.slots[place.row()]);
        if let Some(groups) = &mut self.groups {
            let group = groups.of(&row)?;
            groups.add(group.row(0).as_ref(), slot);
        }
        Ok(())
    }

    pub(super) fn forget_member(&mut self, slot: Slot) -> Result<(), ArrowError> {
        let Some(groups) = &mut self.groups else { return Ok(()) };
        let place = self.slots.place(slot);
        let row = self.segments[place.segment()].batch.slice(place.row(), 1);
        let group = groups.of(&row)?;
        groups.remove(group.row(0).as_ref(), slot);
        Ok(())
    }
}
