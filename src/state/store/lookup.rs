//! Rows by key or by index, wherever they are.

use arrow::array::{Array, ArrayRef};
use arrow::compute::{cast, concat_batches};
use arrow::error::ArrowError;

use super::index::HashIndex;
use super::place::{RowPlace, Slot};
use super::table_store::TableStore;
use super::tiers::SortedLookup;
use crate::model::{Found, Lookup};
use crate::state::error::StateError;

impl TableStore {
    /// Keeps an index on some columns; the key has one already.
    pub(in crate::state) fn add_index(&mut self, columns: &[usize]) -> Result<(), StateError> {
        let mut columns = columns.to_vec();
        columns.sort_unstable();
        if self.is_key(&columns) || self.index(&columns).is_some() {
            return Ok(());
        }
        let index = self.new_index(&columns).map_err(|source| self.error(source))?;
        self.indexes.push(index);
        Ok(())
    }

    fn new_index(&self, columns: &[usize]) -> Result<HashIndex, ArrowError> {
        let mut index = HashIndex::new(&self.schema, columns)?;
        let slots: Vec<Slot> = self.entries.values().filter_map(|entry| entry.slot).collect();
        index.insert(&self.rows_of(&slots, &self.all_columns())?, &slots)?;
        Ok(index)
    }

    fn is_key(&self, columns: &[usize]) -> bool {
        let mut key = self.table.key.clone();
        key.sort_unstable();
        key == columns
    }

    fn index(&self, columns: &[usize]) -> Option<&HashIndex> {
        self.indexes.iter().find(|index| index.columns() == columns)
    }

    /// The keys with the columns in rising order, each of the column's type.
    fn sorted(&self, lookup: Lookup<'_>) -> Result<SortedLookup, ArrowError> {
        let mut pairs: Vec<(usize, &ArrayRef)> =
            lookup.columns.iter().copied().zip(lookup.keys).collect();
        pairs.sort_unstable_by_key(|(column, _)| *column);
        let typed = |(column, keys): &(usize, &ArrayRef)| {
            cast(keys, self.schema.field(*column).data_type())
        };
        let keys = pairs.iter().map(typed).collect::<Result<_, _>>()?;
        let columns = pairs.iter().map(|(column, _)| *column).collect();
        Ok(SortedLookup { columns, keys, nulls_match: lookup.nulls_match })
    }

    /// The keys in the order of the table's key, if that is what is asked by.
    pub(super) fn key_of(&self, lookup: &SortedLookup) -> Option<Vec<ArrayRef>> {
        let SortedLookup { columns, keys, .. } = lookup;
        if !self.is_key(columns) {
            return None;
        }
        let at = |column: &usize| columns.iter().position(|c| c == column).unwrap_or(0);
        Some(self.table.key.iter().map(|column| ArrayRef::clone(&keys[at(column)])).collect())
    }

    /// The rows in memory.
    fn each(
        &self,
        lookup: &SortedLookup,
        mut visit: impl FnMut(u32, RowPlace),
    ) -> Result<(), ArrowError> {
        if let Some(keys) = self.key_of(lookup) {
            return self.each_by_key(&keys, visit);
        }
        let SortedLookup { columns, keys, nulls_match } = lookup;
        let index = self.index(columns).ok_or_else(|| self.no_index(columns))?;
        index.find(keys, *nulls_match, |key, slot| visit(key, self.slots.place(slot)))
    }

    fn each_by_key(
        &self,
        keys: &[ArrayRef],
        mut visit: impl FnMut(u32, RowPlace),
    ) -> Result<(), ArrowError> {
        for (at, key) in self.keys.encode_columns(keys)?.iter().enumerate() {
            if let Some(place) = self.place_of(key.as_ref()) {
                visit(at as u32, place);
            }
        }
        Ok(())
    }

    pub(in crate::state) fn find(
        &self,
        lookup: Lookup<'_>,
        projection: &[usize],
    ) -> Result<Found, ArrowError> {
        let (mut places, mut key_of) = (Vec::new(), Vec::new());
        let lookup = self.sorted(lookup)?;
        self.each(&lookup, |key, place| {
            places.push(place);
            key_of.push(key);
        })?;
        let rows = self.rows_at(&places, projection)?;
        let on_disk = self.on_disk(&lookup)?;
        if on_disk.is_empty() {
            return Ok(Found { rows, key_of });
        }
        key_of.extend(on_disk.iter().map(|(key, _)| *key));
        let others = self.decoded(&on_disk, projection)?;
        let rows = concat_batches(&rows.schema(), [&rows, &others])?;
        Ok(Found { rows, key_of })
    }

    pub(in crate::state) fn count(&self, lookup: Lookup<'_>) -> Result<Vec<usize>, ArrowError> {
        let lookup = self.sorted(lookup)?;
        let mut counts = match self.index(&lookup.columns) {
            Some(index) => index.count(&lookup.keys, lookup.nulls_match)?,
            None => {
                let mut counts = vec![0; lookup.keys.first().map_or(0, |column| column.len())];
                self.each(&lookup, |key, _| counts[key as usize] += 1)?;
                counts
            }
        };
        for (key, _) in self.on_disk(&lookup)? {
            counts[key as usize] += 1;
        }
        Ok(counts)
    }

    fn no_index(&self, columns: &[usize]) -> ArrowError {
        let name = &self.table.name;
        ArrowError::InvalidArgumentError(format!("table {name} has no index on {columns:?}"))
    }
}
