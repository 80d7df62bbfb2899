//! Tables whose rows are replaced between epochs, under names that plans can hold on to.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hashbrown::HashMap;

use crate::model::{Changelog, Table};
use crate::transform::files::changes_name;

/// A table that shows the rows of the current epoch.
#[derive(Debug)]
pub(crate) struct LiveTable {
    schema: SchemaRef,
    rows: RwLock<Vec<RecordBatch>>,
}

impl LiveTable {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, rows: RwLock::new(Vec::new()) }
    }

    fn set(&self, rows: Vec<RecordBatch>) {
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}

#[async_trait]
impl TableProvider for LiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner).clone();
        let table = MemTable::try_new(Arc::clone(&self.schema), vec![rows])?;
        table.scan(state, projection, filters, limit).await
    }
}

/// Some columns of a table: what a query sees that does not read all that others read.
#[derive(Debug)]
pub(crate) struct NarrowTable {
    table: Arc<LiveTable>,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl NarrowTable {
    /// `columns` are positions in the table's schema.
    pub(crate) fn new(table: Arc<LiveTable>, columns: Vec<usize>) -> Self {
        let schema = table.schema.project(&columns).expect("the positions are of its columns");
        Self { table, columns, schema: Arc::new(schema) }
    }
}

#[async_trait]
impl TableProvider for NarrowTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = match projection {
            Some(projection) => projection.iter().map(|at| self.columns[*at]).collect(),
            None => self.columns.clone(),
        };
        self.table.scan(state, Some(&columns), filters, limit).await
    }
}

/// All live tables by their names in SQL.
#[derive(Debug, Default)]
pub(crate) struct LiveTables {
    tables: HashMap<String, Arc<LiveTable>>,
    sources: HashSet<String>,
    changelogs: HashSet<String>,
}

impl LiveTables {
    /// The current rows and the changelog of a source table.
    pub(crate) fn add_source(&mut self, table: &Table) {
        let changes = changes_name(&table.name);
        self.add(&table.name, table.schema());
        self.add(&changes, table.changelog_schema());
        self.sources.insert(table.name.clone());
        self.changelogs.insert(changes);
    }

    pub(crate) fn add(&mut self, name: &str, schema: SchemaRef) -> Arc<LiveTable> {
        let table = Arc::new(LiveTable::new(schema));
        self.tables.insert(name.to_owned(), Arc::clone(&table));
        table
    }

    /// A table that the state keeps beside the declared ones; two queries may read the same.
    pub(crate) fn add_view(&mut self, view: &Table) -> Arc<LiveTable> {
        if let Some(known) = self.tables.get(&view.name) {
            return Arc::clone(known);
        }
        self.sources.insert(view.name.clone());
        self.add(&view.name, view.schema())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Arc<LiveTable>)> {
        self.tables.iter()
    }

    pub(crate) fn holds(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    pub(crate) fn is_source(&self, name: &str) -> bool {
        self.sources.contains(name)
    }

    pub(crate) fn is_changelog(&self, name: &str) -> bool {
        self.changelogs.contains(name)
    }

    pub(crate) fn set(&self, name: &str, rows: Vec<RecordBatch>) {
        if let Some(table) = self.tables.get(name) {
            table.set(rows);
        }
    }

    /// Shows this epoch's changelogs; their names.
    pub(crate) fn show_changes(&self, changes: &[Changelog]) -> Vec<String> {
        let show = |changelog: &Changelog| {
            let name = changes_name(&changelog.table.name);
            self.set(&name, vec![changelog.batch.clone()]);
            name
        };
        changes.iter().map(show).collect()
    }

    /// Holds no row any longer than it is read.
    pub(crate) fn clear(&self) {
        self.tables.values().for_each(|table| table.set(Vec::new()));
    }
}
