//! All targets of a sink, as the catalog describes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::client::connection::Connection;
use super::client::error::classify;
use super::client::quote;
use super::dead_letters::letter_table;
use super::read::committed::EventIds;
use super::remedies;
use super::schema::catalog;
use super::schema::landing_columns::{EVENT_ID, is_current, target_name};
use super::schema::system_tables::{DEAD_LETTERS, DELETED};
use super::target::current::{CurrentRows, Owner};
use super::target::landing;
use super::target::problem::TargetProblem;
use super::target::result::{ResultTarget, with_table};
use super::target::row_write::{RowOrigin, RowWrite, WriteMethod};
use super::target::table::{FoundTable, TargetTable};
use crate::model::{Changelog, ResultTable, Table};
use crate::sink::SinkError;

/// Checked targets by the names of their tables and results.
#[derive(Default)]
pub(super) struct Targets {
    pub(super) landing: HashMap<String, TargetTable>,
    pub(super) results: HashMap<String, ResultTarget>,
    pub(super) dead_letters: Option<TargetTable>,
    /// What they were checked for.
    spec: TargetSpec,
}

/// What is going to be written.
#[derive(Default, Clone)]
pub(super) struct TargetSpec {
    pub(super) tables: Vec<Arc<Table>>,
    pub(super) results: Vec<Arc<ResultTable>>,
}

impl Targets {
    /// Where the events of the tables are landed.
    pub(super) fn event_ids(&self, schema: &str) -> Vec<EventIds> {
        let tables = &self.spec.tables;
        let of_table = |table: &Arc<Table>| {
            let target = self.landing.get(&table.name)?;
            let column = quote::ident(&table.free_name(EVENT_ID));
            Some(EventIds { table: target.sql_name.clone(), column })
        };
        // What was deleted from tables of current rows.
        let deleted = tables.iter().any(|table| is_current(table)).then(|| EventIds {
            table: quote::table(schema, DELETED),
            column: quote::ident(EVENT_ID),
        });
        tables.iter().filter_map(of_table).chain(deleted).collect()
    }

    /// # Errors
    /// [`SinkError::Targets`] with all problems at once.
    pub(super) async fn read(
        connection: &Connection,
        schema: &str,
        spec: TargetSpec,
    ) -> Result<Self, SinkError> {
        let (targets, problems) = Self::check(connection, schema, spec).await?;
        if problems.is_empty() {
            return Ok(targets);
        }
        let TargetSpec { tables, results } = &targets.spec;
        Err(SinkError::Targets {
            problems: remedies::ExpectedTargets::new(schema, tables, results).told(&problems),
        })
    }

    /// The targets, and what is wrong with them; if anything is, they are not to be used.
    ///
    /// # Errors
    /// If the catalog can't be read.
    pub(super) async fn check(
        connection: &Connection,
        schema: &str,
        spec: TargetSpec,
    ) -> Result<(Self, Vec<TargetProblem>), SinkError> {
        let (mut checked, mut problems) = (Self::default(), Vec::new());
        for table in &spec.tables {
            let target = landing_target(connection, schema, table, &mut problems).await?;
            checked.landing.extend(target.map(|target| (table.name.clone(), target)));
        }
        for result in with_table(&spec.results) {
            let name = &result.target;
            if let Some(catalog) = catalog_of(connection, schema, name, &mut problems).await? {
                let target = ResultTarget::check(result, schema, &catalog, &mut problems);
                checked.results.insert(result.name.clone(), target);
            }
        }
        let dlq = catalog_of(connection, schema, DEAD_LETTERS, &mut problems).await?;
        checked.dead_letters =
            dlq.map(|catalog| letter_table::check(schema, &catalog, &mut problems));
        checked.spec = spec;
        Ok((checked, problems))
    }

    /// Checks again for the same: the tables may have been altered.
    ///
    /// # Errors
    /// As [`Self::read`]; the targets stay as they were then.
    pub(super) async fn refresh(
        &mut self,
        connection: &Connection,
        schema: &str,
    ) -> Result<(), SinkError> {
        *self = Self::read(connection, schema, self.spec.clone()).await?;
        Ok(())
    }

    /// # Errors
    /// [`SinkError::Targets`] if it was not checked.
    pub(crate) fn landing_of(&self, table: &Table) -> Result<&TargetTable, SinkError> {
        self.landing.get(&table.name).ok_or_else(|| unchecked(&table.name))
    }

    /// # Errors
    /// [`SinkError::Targets`] if it was not checked.
    pub(crate) fn result_of(&self, result: &ResultTable) -> Result<&ResultTarget, SinkError> {
        self.results.get(&result.name).ok_or_else(|| unchecked(&result.name))
    }

    /// # Errors
    /// [`SinkError::Targets`] if it was not checked.
    pub(crate) fn dead_letters(&self) -> Result<&TargetTable, SinkError> {
        self.dead_letters.as_ref().ok_or_else(|| unchecked(DEAD_LETTERS))
    }

    /// The rows of a changelog of [`current::newest`]; `None` for a table that lands nowhere.
    pub(super) fn landing_write<'a>(
        &'a self,
        owner: Owner<'_>,
        changelog: &'a Changelog,
        processed_at: SystemTime,
    ) -> Result<Option<RowWrite<'a>>, SinkError> {
        if target_name(&changelog.table).is_none() {
            return Ok(None);
        }
        let target = self.landing_of(&changelog.table)?;
        if is_current(&changelog.table) {
            let rows = CurrentRows::new(owner, &changelog.table, target);
            return rows.write(changelog, processed_at).map(Some);
        }
        let rows = landing::rows(changelog, target, processed_at)?;
        Ok(Some(RowWrite {
            rows,
            method: WriteMethod::Append,
            origin: RowOrigin::Landing(changelog),
        }))
    }
}

/// Where a table lands; `None` if nowhere, or if there is no such table.
pub(super) async fn landing_target(
    connection: &Connection,
    schema: &str,
    table: &Table,
    problems: &mut Vec<TargetProblem>,
) -> Result<Option<TargetTable>, SinkError> {
    let Some(name) = target_name(table) else { return Ok(None) };
    let catalog = catalog_of(connection, schema, name, problems).await?;
    Ok(catalog.map(|catalog| {
        let found = FoundTable { schema, name, catalog: &catalog };
        landing::check(table, &found, problems)
    }))
}

async fn catalog_of(
    connection: &Connection,
    schema: &str,
    table: &str,
    problems: &mut Vec<TargetProblem>,
) -> Result<Option<catalog::CatalogTable>, SinkError> {
    let read = catalog::read(&connection.client, schema, table).await;
    let catalog = read.map_err(|error| classify("reading the catalog", error))?;
    connection.deadline.record_activity();
    if catalog.is_none() {
        problems.push(TargetProblem::no_table(schema, table));
    }
    Ok(catalog)
}

fn unchecked(name: &str) -> SinkError {
    SinkError::Targets { problems: vec![format!("{name}: its target was not checked at start")] }
}
