//! Source tables that find rows by looking at each one, and transforms over them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

use crate::model::{Changelog, CurrentRows, Found, Lookup, ResultChanges, Table, TableDelta};
use crate::transform::{TransformError, Transforms};

/// The rows of a source table from now on.
pub(super) struct TableRows {
    pub(super) name: String,
    pub(super) rows: RecordBatch,
}

#[derive(Debug)]
struct Held(HashMap<String, (Arc<Table>, RecordBatch)>);

impl Held {
    fn new(tables: &[Arc<Table>]) -> Self {
        let empty = |table: &Arc<Table>| {
            (table.name.clone(), (Arc::clone(table), RecordBatch::new_empty(table.schema())))
        };
        Self(tables.iter().map(empty).collect())
    }

    /// The difference that the new rows make.
    fn replace(&mut self, new: TableRows) -> TableDelta {
        let (table, rows) = self.0.get_mut(&new.name).unwrap();
        let old = std::mem::replace(rows, new.rows.clone());
        let (before, after) = (by_key(table, &old), by_key(table, &new.rows));
        let (mut kept, mut changed) = (Vec::new(), Vec::new());
        for (key, row) in &before {
            if let Some(now) = after.get(key) {
                kept.push(*row);
                changed.push(*now);
            }
        }
        let only = |these: &BTreeMap<String, u32>, others: &BTreeMap<String, u32>| {
            let rows = these.iter().filter(|(key, _)| !others.contains_key(*key));
            rows.map(|(_, row)| *row).collect::<Vec<_>>()
        };
        TableDelta {
            table: new.name,
            before: take(&old, kept),
            after: take(&new.rows, changed),
            inserted: take(&new.rows, only(&after, &before)),
            deleted: take(&old, only(&before, &after)),
        }
    }
}

fn by_key(table: &Table, rows: &RecordBatch) -> BTreeMap<String, u32> {
    let key = |row| values(&table.key.iter().map(|at| rows.column(*at)).collect::<Vec<_>>(), row);
    (0..rows.num_rows()).map(|row| (key(row), row as u32)).collect()
}

fn values(columns: &[&ArrayRef], row: usize) -> String {
    let text = |column: &&ArrayRef| array_value_to_string(column, row).unwrap();
    columns.iter().map(text).collect::<Vec<_>>().join("|")
}

fn take(rows: &RecordBatch, at: Vec<u32>) -> RecordBatch {
    take_record_batch(rows, &UInt32Array::from(at)).unwrap()
}

impl CurrentRows for Held {
    fn find(
        &self,
        table: &str,
        lookup: Lookup<'_>,
        projection: &[usize],
    ) -> Result<Found, ArrowError> {
        let rows = &self.0[table].1;
        let columns: Vec<&ArrayRef> = lookup.columns.iter().map(|at| rows.column(*at)).collect();
        let keys: Vec<&ArrayRef> = lookup.keys.iter().collect();
        let (mut found, mut key_of) = (Vec::new(), Vec::new());
        for key in 0..keys[0].len() {
            let has_null = keys.iter().any(|column| column.is_null(key));
            let same = |row: &usize| {
                values(&columns, *row) == values(&keys, key) && (lookup.nulls_match || !has_null)
            };
            for row in (0..rows.num_rows()).filter(same) {
                found.push(row as u32);
                key_of.push(key as u32);
            }
        }
        Ok(Found { rows: take(&rows.project(projection)?, found), key_of })
    }

    fn count(&self, table: &str, lookup: Lookup<'_>) -> Result<Vec<usize>, ArrowError> {
        let mut counts = vec![0; lookup.keys[0].len()];
        self.find(table, lookup, &[0])?.key_of.iter().for_each(|key| counts[*key as usize] += 1);
        Ok(counts)
    }

    fn scan(
        &self,
        table: &str,
        visit: &mut dyn FnMut(RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<(), ArrowError> {
        visit(self.0[table].1.clone())
    }
}

/// Transforms over tables whose rows a test gives as a whole.
pub(super) struct Rehearsal {
    pub(super) transforms: Transforms,
    held: Held,
}

impl Rehearsal {
    pub(super) async fn new(transforms: Transforms, tables: &[Arc<Table>]) -> Self {
        let mut rehearsal = Self { transforms, held: Held::new(tables) };
        rehearsal.load(vec![], None).await.unwrap();
        rehearsal
    }

    fn replace(&mut self, tables: Vec<TableRows>) -> Vec<TableDelta> {
        tables.into_iter().map(|rows| self.held.replace(rows)).collect()
    }

    pub(super) async fn run(
        &mut self,
        tables: Vec<TableRows>,
        changes: &[Changelog],
        watermark: Option<i64>,
    ) -> Result<Vec<ResultChanges>, TransformError> {
        let deltas = self.replace(tables);
        self.transforms.run(&self.held, deltas, changes, watermark).await
    }

    pub(super) async fn load(
        &mut self,
        tables: Vec<TableRows>,
        watermark: Option<i64>,
    ) -> Result<(), TransformError> {
        self.replace(tables);
        self.transforms.load(&self.held, watermark).await.pop().map_or(Ok(()), Err)
    }

    pub(super) async fn redefined(
        &mut self,
        written: &BTreeMap<String, String>,
    ) -> Result<Vec<ResultChanges>, TransformError> {
        let mut redefined = self.transforms.redefined(written, &self.held).await;
        redefined.failed.pop().map_or(Ok(redefined.results), Err)
    }
}
