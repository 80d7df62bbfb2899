//! The source tables as the harness itself keeps them: the newest row per key, and nothing clever.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::scalar::ScalarValue;
use tidemark::model::{Changelog, Operation, Table};

use crate::rows::{changelog, row};
use crate::stream::{Change, TABLES};

pub(crate) struct Model {
    /// In the order of [`TABLES`].
    tables: Vec<Arc<Table>>,
    rows: Vec<BTreeMap<i64, Vec<ScalarValue>>>,
}

impl Model {
    pub(crate) fn new(declared: &[Arc<Table>]) -> Self {
        let table = |name: &str| declared.iter().find(|table| table.name == name).unwrap();
        let tables = TABLES.iter().map(|(name, _)| Arc::clone(table(name))).collect();
        Self { tables, rows: vec![BTreeMap::new(); TABLES.len()] }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        let rows = &mut self.rows[change.table];
        match &change.values {
            Some(values) => {
                rows.insert(change.key, row(&self.tables[change.table], change.key, values));
            }
            None => {
                rows.remove(&change.key);
            }
        }
    }

    /// An epoch's changes as changelogs, one per table, from a position on.
    pub(crate) fn changelogs(&self, changes: &[Change], position: &mut i64) -> Vec<Changelog> {
        let mut changelogs = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            let of_table = changes.iter().filter(|change| change.table == number);
            let (mut rows, mut operations) = (Vec::new(), Vec::new());
            for Change { key, values, .. } in of_table {
                let deleted = vec![crate::rows::NULL; table.columns.len()];
                rows.push(row(table, *key, values.as_ref().unwrap_or(&deleted)));
                operations.push(match values {
                    Some(_) => Operation::Update,
                    None => Operation::Delete,
                });
            }
            changelogs.extend(changelog(table, rows, operations, position));
        }
        changelogs
    }

    /// The current rows as a start finds them in the landing tables.
    pub(crate) fn landed(&self, position: &mut i64) -> Vec<Changelog> {
        let landed = |(table, rows): (&Arc<Table>, &BTreeMap<_, Vec<ScalarValue>>)| {
            let operations = vec![Operation::Create; rows.len()];
            changelog(table, rows.values().cloned().collect(), operations, position)
        };
        self.tables.iter().zip(&self.rows).filter_map(landed).collect()
    }

    /// Each table with its rows.
    pub(crate) fn batches(&self) -> impl Iterator<Item = (&Arc<Table>, RecordBatch)> {
        self.tables.iter().zip(&self.rows).map(|(table, rows)| {
            if rows.is_empty() {
                return (table, RecordBatch::new_empty(table.schema()));
            }
            let column = |at: usize| -> ArrayRef {
                ScalarValue::iter_to_array(rows.values().map(|row| row[at].clone())).unwrap()
            };
            let columns = (0..table.columns.len()).map(column).collect();
            (table, RecordBatch::try_new(table.schema(), columns).unwrap())
        })
    }
}
