//! Tables that no file declares and that the registry has: which of them a session treats as declared ones.
//!
//! A registered table must not keep the declared ones from working, so one that clashes with a file, or that
//! can't land, is withdrawn: its events are dead letters that say why.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use metrics::counter;
use tracing::warn;

use crate::decode::{RegisteredTables, UnknownTables};
use crate::model::{ResultTable, SchemaChange, SourceTable, Table, discovered_tables};
use crate::pipeline::sql_folder::Sql;
use crate::resilience::chain;
use crate::sink::SinkError;
use crate::sink::postgres::SchemaAdmin;
use crate::telemetry::names;
use crate::transform::{SqlError, Transforms};

/// The registered tables of a session.
#[derive(Debug, Default)]
pub(crate) struct DiscoveredTables {
    tables: Vec<Arc<Table>>,
    /// Why others are not among them.
    withdrawn: HashMap<SourceTable, String>,
    /// Of the withdrawn ones, which nobody else may have.
    names: HashSet<String>,
}

impl DiscoveredTables {
    /// As far as the files decide.
    pub(crate) fn of(sql: &Sql, registry: &[SchemaChange]) -> Self {
        let mut discovered = Self::default();
        if sql.unknown_tables != UnknownTables::Register {
            return discovered;
        }
        for table in discovered_tables(registry, &sql.tables) {
            match clash(&table, &sql.tables) {
                Some(reason) => discovered.withdraw(&table, reason),
                None => discovered.tables.push(table),
            }
        }
        discovered
    }

    /// As [`Self::of`], with their landing tables, which are created if they are not there.
    ///
    /// # Errors
    /// If the target is away.
    pub(crate) async fn landing(
        sql: &Sql,
        registry: &[SchemaChange],
        admin: &mut SchemaAdmin,
    ) -> Result<Self, SinkError> {
        let mut discovered = Self::of(sql, registry);
        for table in std::mem::take(&mut discovered.tables) {
            match admin.admit(&table).await {
                Ok(()) => discovered.tables.push(table),
                Err(error @ SinkError::Targets { .. }) => {
                    discovered.withdraw(&table, chain(&error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(discovered)
    }

    fn withdraw(&mut self, table: &Table, reason: String) {
        self.names.extend(names_of(table));
        self.withdrawn.insert(table.source.clone(), reason);
    }

    /// Tells operators which ones can't be used.
    pub(crate) fn tell(&self) {
        for (table, reason) in &self.withdrawn {
            counter!(names::ALERTS, "kind" => "registered_table").increment(1);
            let table = table.to_string();
            warn!(
                alert = "registered_table",
                table, reason, "a registered table can't be used: its events are dead letters"
            );
        }
    }

    /// The declared tables, and these.
    pub(crate) fn and_declared(&self, sql: &Sql) -> Vec<Arc<Table>> {
        sql.tables.iter().chain(&self.tables).cloned().collect()
    }

    /// Plans the files of a folder, as far as the registry and the files say.
    ///
    /// # Errors
    /// As [`Transforms::plan`].
    pub(crate) async fn plan(
        &self,
        sql: &Sql,
        registry: &[SchemaChange],
    ) -> Result<Transforms, Vec<SqlError>> {
        let tables = self.and_declared(sql);
        Transforms::plan(sql.plan_request(&tables, registry)).await
    }

    /// What the decoder has to know of them, and of the names that are taken.
    pub(crate) fn known(self, sql: &Sql, results: &[Arc<ResultTable>]) -> RegisteredTables {
        let mut taken = self.names;
        taken.extend(sql.tables.iter().chain(&self.tables).flat_map(|table| names_of(table)));
        // Files that wait have no results yet.
        taken.extend(sql.transforms.iter().map(|file| file.name.clone()));
        taken.extend(results.iter().map(|result| result.target.clone()));
        let count = self.tables.len() + self.withdrawn.len();
        RegisteredTables { count, withdrawn: self.withdrawn, taken }
    }
}

impl Sql {
    /// Plans the files with what events have shown, as far as this and the files say.
    ///
    /// # Errors
    /// As [`Transforms::plan`].
    pub async fn plan(&self, registry: &[SchemaChange]) -> Result<Transforms, Vec<SqlError>> {
        DiscoveredTables::of(self, registry).plan(self, registry).await
    }
}

/// Its name in SQL, and where it lands.
fn names_of(table: &Table) -> Vec<String> {
    let landing = table.options.landing.target().map(str::to_owned);
    std::iter::once(table.name.clone()).chain(landing).collect()
}

/// Files were there after it, and win.
fn clash(table: &Table, declared: &[Arc<Table>]) -> Option<String> {
    let changes = |name: &str| format!("{name}_changes");
    let same_name = declared.iter().find(|other| {
        other.name == table.name
            || other.name == changes(&table.name)
            || changes(&other.name) == table.name
    });
    let same_landing = declared
        .iter()
        .find(|other| other.options.landing.target() == table.options.landing.target());
    let Table { name, source, .. } = table;
    match (same_name, same_landing) {
        (Some(other), _) => Some(format!(
            "its name {name} clashes with that of {} ({}): declare {source} in a file of its own, with another name",
            other.name, other.source
        )),
        (None, Some(other)) => Some(format!(
            "it lands where the changes of {} land: declare {source} in a file of its own",
            other.name
        )),
        (None, None) => None,
    }
}
