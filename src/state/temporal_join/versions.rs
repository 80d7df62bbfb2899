//! The versions that rows show, each kept once.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::model::{
    Changelog, Column, LearnedColumns, Offset, Operation, Position, SystemColumn, Table,
    TableOptions, TableOrigin,
};
use crate::state::error::StateError;
use crate::state::store::{Slot, TableStore};

/// Versions of rows of a looked-up table that rows of the enriched one show, each kept once and as
/// long as one of these does.
#[derive(Debug)]
pub(in crate::state) struct Versions {
    /// By the key of the looked-up table and the position of the version.
    store: TableStore,
    shown_by: HashMap<Slot, u32>,
}

impl Versions {
    pub(in crate::state) fn new(looked_up: &Table) -> Result<Self, StateError> {
        let mut columns = looked_up.columns.clone();
        columns.push(Column { name: "@from".into(), data_type: DataType::Int64, nullable: false });
        let mut key = looked_up.key.clone();
        key.push(looked_up.columns.len());
        let (name, source) = (looked_up.name.clone(), looked_up.source.clone());
        let table = Table {
            name,
            source,
            columns,
            key,
            options: TableOptions::default(),
            origin: TableOrigin::Declared,
            learned: LearnedColumns::default(),
        };
        Ok(Self { store: TableStore::new(Arc::new(table))?, shown_by: HashMap::new() })
    }

    /// Where each of these versions is kept: `rows` are of the looked-up table. Each is shown once more.
    pub(in crate::state) fn show(
        &mut self,
        rows: &RecordBatch,
        from: &[Position],
    ) -> Result<Vec<Slot>, StateError> {
        let changelog = self.changelog(rows, from).map_err(|source| self.store.error(source))?;
        let keys =
            self.store.encode(&changelog.batch).map_err(|source| self.store.error(source))?;
        // One that is kept already stays as it is: its position is not newer.
        self.store.fold(changelog)?;
        let slot = |key: arrow::row::Row<'_>| self.store.entry(key.as_ref())?.slot;
        let slots: Vec<Slot> = keys.iter().filter_map(slot).collect();
        for slot in &slots {
            *self.shown_by.entry(*slot).or_default() += 1;
        }
        Ok(slots)
    }

    /// Each is shown once less; what no row shows goes.
    pub(in crate::state) fn hide(&mut self, slots: &[Slot]) -> Result<(), ArrowError> {
        let mut unseen = Vec::new();
        for slot in slots {
            let Some(count) = self.shown_by.get_mut(slot) else { continue };
            *count -= 1;
            if *count == 0 {
                self.shown_by.remove(slot);
                unseen.push(*slot);
            }
        }
        if unseen.is_empty() {
            return Ok(());
        }
        self.store.forget_slots(&unseen)
    }

    /// Some columns of some versions.
    pub(in crate::state) fn rows(
        &self,
        slots: &[Slot],
        columns: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        self.store.rows_of(slots, columns)
    }

    pub(in crate::state) fn len(&self) -> usize {
        self.shown_by.len()
    }

    pub(in crate::state) fn memory(&self) -> usize {
        self.store.memory() + self.shown_by.capacity() * (size_of::<(Slot, u32)>() + 1)
    }

    fn changelog(&self, rows: &RecordBatch, from: &[Position]) -> Result<Changelog, ArrowError> {
        let (table, count) = (self.store.table(), from.len());
        let schema = table.changelog_schema();
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from_iter_values(from.iter().map(|p| p.0))));
        for system in SystemColumn::ALL {
            let field = schema.field(table.system_column(system));
            columns.push(if field.is_nullable() {
                new_null_array(field.data_type(), count)
            } else {
                Arc::new(StringArray::from(vec![""; count])) as ArrayRef
            });
        }
        Ok(Changelog {
            table: Arc::clone(table),
            batch: RecordBatch::try_new(schema, columns)?,
            offsets: vec![Offset::default(); count],
            positions: vec![Position::default(); count],
            operations: vec![Operation::Create; count],
            scns: vec![None; count],
            unchanged: Vec::new(),
            truncations: Vec::new(),
        })
    }
}
