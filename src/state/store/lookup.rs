//! Rows by key or by index, as the SQL asks for them.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::error::ArrowError;

use super::index::Index;
use super::store::Place;
use super::{StateError, StateStores, Store};
use crate::model::{CurrentRows, Found, Lookup};

impl Store {
    /// Keeps an index on some columns; the key has one already.
    pub(super) fn add_index(&mut self, columns: &[usize]) -> Result<(), StateError> {
        let mut columns = columns.to_vec();
        columns.sort_unstable();
        if self.is_key(&columns) || self.index(&columns).is_some() {
            return Ok(());
        }
        let index = self.new_index(&columns).map_err(|source| self.error(source))?;
        self.indexes.push(index);
        Ok(())
    }

    fn new_index(&self, columns: &[usize]) -> Result<Index, ArrowError> {
        let mut index = Index::new(&self.schema, columns)?;
        let slots: Vec<_> = self.entries.values().filter_map(|entry| entry.slot).collect();
        let places: Vec<Place> = slots.iter().map(|slot| self.slots.place(*slot)).collect();
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        index.insert(&self.rows_at(&places, &all)?, &slots)?;
        Ok(index)
    }

    fn is_key(&self, columns: &[usize]) -> bool {
        let mut key = self.table.key.clone();
        key.sort_unstable();
        key == columns
    }

    fn index(&self, columns: &[usize]) -> Option<&Index> {
        self.indexes.iter().find(|index| index.columns() == columns)
    }

    /// The keys with the columns in rising order, each of the column's type.
    fn sorted(&self, lookup: Lookup<'_>) -> Result<(Vec<usize>, Vec<ArrayRef>), ArrowError> {
        let mut pairs: Vec<(usize, &ArrayRef)> =
            lookup.columns.iter().copied().zip(lookup.keys).collect();
        pairs.sort_unstable_by_key(|(column, _)| *column);
        let typed = |(column, keys): &(usize, &ArrayRef)| {
            cast(keys, self.schema.field(*column).data_type())
        };
        let keys = pairs.iter().map(typed).collect::<Result<_, _>>()?;
        Ok((pairs.iter().map(|(column, _)| *column).collect(), keys))
    }

    fn each(
        &self,
        lookup: Lookup<'_>,
        mut visit: impl FnMut(u32, Place),
    ) -> Result<(), ArrowError> {
        let (columns, keys) = self.sorted(lookup)?;
        if self.is_key(&columns) {
            let at = |column: &usize| columns.iter().position(|c| c == column).unwrap_or(0);
            let keys: Vec<ArrayRef> =
                self.table.key.iter().map(|column| ArrayRef::clone(&keys[at(column)])).collect();
            return self.each_by_key(&keys, visit);
        }
        let index = self.index(&columns).ok_or_else(|| self.no_index(&columns))?;
        index.find(&keys, lookup.nulls_match, |key, slot| visit(key, self.slots.place(slot)))
    }

    fn each_by_key(
        &self,
        keys: &[ArrayRef],
        mut visit: impl FnMut(u32, Place),
    ) -> Result<(), ArrowError> {
        for (at, key) in self.keys.encode_columns(keys)?.iter().enumerate() {
            let entry = self.entries.get(key.as_ref());
            if let Some(place) = entry.and_then(|entry| self.place(entry)) {
                visit(at as u32, place);
            }
        }
        Ok(())
    }

    pub(super) fn find(
        &self,
        lookup: Lookup<'_>,
        projection: &[usize],
    ) -> Result<Found, ArrowError> {
        let (mut places, mut key_of) = (Vec::new(), Vec::new());
        self.each(lookup, |key, place| {
            places.push(place);
            key_of.push(key);
        })?;
        Ok(Found { rows: self.rows_at(&places, projection)?, key_of })
    }

    fn count(&self, lookup: Lookup<'_>) -> Result<Vec<usize>, ArrowError> {
        let (columns, keys) = self.sorted(lookup)?;
        if let Some(index) = self.index(&columns) {
            return index.count(&keys, lookup.nulls_match);
        }
        let mut counts = vec![0; keys.first().map_or(0, |column| column.len())];
        self.each(lookup, |key, _| counts[key as usize] += 1)?;
        Ok(counts)
    }

    fn no_index(&self, columns: &[usize]) -> ArrowError {
        let name = &self.table.name;
        ArrowError::InvalidArgumentError(format!("table {name} has no index on {columns:?}"))
    }
}

impl StateStores {
    fn known(&self, table: &str) -> Result<&Store, ArrowError> {
        let unknown = || ArrowError::InvalidArgumentError(format!("no table {table} in the state"));
        self.store(table).ok_or_else(unknown)
    }
}

impl CurrentRows for StateStores {
    fn find(
        &self,
        table: &str,
        lookup: Lookup<'_>,
        projection: &[usize],
    ) -> Result<Found, ArrowError> {
        match self.view(table) {
            Some((view, enriched)) => view.find(enriched, lookup, projection),
            None => self.known(table)?.find(lookup, projection),
        }
    }

    fn count(&self, table: &str, lookup: Lookup<'_>) -> Result<Vec<usize>, ArrowError> {
        let Some((view, enriched)) = self.view(table) else {
            return self.known(table)?.count(lookup);
        };
        let mut counts = vec![0; lookup.keys.first().map_or(0, |column| column.len())];
        for key in view.find(enriched, lookup, &[])?.key_of {
            counts[key as usize] += 1;
        }
        Ok(counts)
    }

    fn all(&self, table: &str) -> Result<Vec<RecordBatch>, ArrowError> {
        if let Some((view, enriched)) = self.view(table) {
            return view.all(enriched);
        }
        let store = self.known(table)?;
        store.segments.iter().map(super::segment::Segment::snapshot).collect()
    }
}
