//! The current rows as the SQL asks for them: of tables, and of temporal joins.

use arrow::array::{Array, RecordBatch};
use arrow::error::ArrowError;

use super::store::TableStore;
use super::stores::StateStores;
use crate::model::{CurrentRows, Found, Lookup};

impl StateStores {
    fn known(&self, table: &str) -> Result<&TableStore, ArrowError> {
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

    fn scan(
        &self,
        table: &str,
        visit: &mut dyn FnMut(RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<(), ArrowError> {
        match self.view(table) {
            Some((view, enriched)) => view.scan(enriched, visit),
            None => self.known(table)?.scan(visit),
        }
    }
}
