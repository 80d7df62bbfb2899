//! What is done to the schema before epochs are written: files of `sql/ods`, tables, columns, and whether all fits.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::client::connection::Connection;
use super::client::error::classify;
use super::client::session::DatabaseSession;
use super::commit::schema_changes;
use super::config::PostgresConfig;
use super::doctor::compatibility::{Unfit, unfit};
use super::schema::alter::{self, AlterScope, Altered};
use super::schema::{catalog, create, migrations, sql_files};
use super::target::problem::refuse;
use super::target::result::with_table;
use super::targets::{self, TargetSpec, Targets};
use crate::model::{ResultTable, SchemaChange, Table};
use crate::resilience::{Recovery, chain};
use crate::sink::SinkError;

/// Prepares the tables of a pipeline, by a connection of its own.
pub struct SchemaAdmin {
    session: DatabaseSession,
    pipeline: String,
}

impl SchemaAdmin {
    /// Does not connect yet.
    ///
    /// # Errors
    /// [`SinkError::Config`] with everything that is wrong.
    pub fn new(config: PostgresConfig, pipeline: impl Into<String>) -> Result<Self, SinkError> {
        Ok(Self::over(DatabaseSession::new(config)?, pipeline.into()))
    }

    pub(super) fn over(session: DatabaseSession, pipeline: String) -> Self {
        Self { session, pipeline }
    }

    /// Applies the files of `sql/ods` (name, text) that were not applied yet, in the order of their
    /// names and each in its own transaction; then creates the sink's own tables and `cdc_dlq`
    /// where they are missing. To be called before anything else, with or without files. Which ones were applied.
    ///
    /// # Errors
    /// [`SinkError::MigrationChanged`] for an applied file with another text,
    /// [`SinkError::Migration`] for one that Postgres refuses.
    pub async fn apply_ods(
        &mut self,
        files: &[(String, String)],
    ) -> Result<Vec<String>, SinkError> {
        let config = self.session.config().clone();
        let doing = "applying the files of sql/ods";
        self.session
            .with_connection(doing, async |open| migrations::apply(open, &config, files).await)
            .await
    }

    /// Which of the files of `sql/ods` are still to be applied; nothing is written.
    ///
    /// # Errors
    /// [`SinkError::MigrationChanged`] for an applied file with another text.
    pub async fn pending_ods(
        &mut self,
        files: &[(String, String)],
    ) -> Result<Vec<String>, SinkError> {
        let schema = self.session.schema().to_owned();
        let pending = async |open: &mut Connection| migrations::pending(open, &schema, files).await;
        self.session.with_connection("reading which files of sql/ods are applied", pending).await
    }

    /// The SQL files (name and content) that the pipeline ran last; none if that is not known.
    ///
    /// # Errors
    /// If the target is away.
    pub async fn sql_files(&mut self) -> Result<Vec<(String, String)>, SinkError> {
        let (schema, pipeline) = (self.session.schema().to_owned(), self.pipeline.clone());
        let read =
            async |open: &mut Connection| sql_files::read(&open.client, &schema, &pipeline).await;
        self.session.with_connection("reading the SQL files that ran last", read).await
    }

    /// Notes the SQL files that the pipeline runs.
    ///
    /// # Errors
    /// If they can't be written.
    pub async fn note_sql_files(&mut self, files: &[(String, String)]) -> Result<(), SinkError> {
        let (schema, pipeline) = (self.session.schema().to_owned(), self.pipeline.clone());
        let write = async |open: &mut Connection| {
            sql_files::write(&open.client, &schema, &pipeline, files).await
        };
        self.session.with_connection("keeping the SQL files that run", write).await
    }

    /// What the events of the pipeline have taught about the columns of their tables, oldest first.
    ///
    /// # Errors
    /// If the registry can't be read.
    pub async fn schema_changes(&mut self) -> Result<Vec<SchemaChange>, SinkError> {
        schema_changes::read_alone(&mut self.session, &self.pipeline).await
    }

    /// Creates the tables of results that are not there yet, unless the configuration forbids it.
    ///
    /// # Errors
    /// [`SinkError::Targets`] if Postgres refuses; with what to do.
    pub async fn create_missing(&mut self, results: &[Arc<ResultTable>]) -> Result<(), SinkError> {
        if !self.session.config().create_tables {
            return Ok(());
        }
        let schema = self.session.schema().to_owned();
        let create = async |open: &mut Connection| {
            for result in with_table(results) {
                create::create_missing(open, &schema, result).await?;
            }
            Ok(())
        };
        self.session.with_connection("creating tables", create).await
    }

    /// As [`Self::create_missing`], but those that can't be created are no error; with the reason of each.
    ///
    /// # Errors
    /// If the target is away.
    pub async fn create_each(
        &mut self,
        results: &[Arc<ResultTable>],
    ) -> Result<BTreeMap<String, String>, SinkError> {
        let mut refused = BTreeMap::new();
        for result in results {
            match self.create_missing(std::slice::from_ref(result)).await {
                Ok(()) => {}
                Err(error) if error.recovery() == Recovery::Retry => return Err(error),
                Err(error) => {
                    refused.insert(result.name.clone(), chain(&error));
                }
            }
        }
        Ok(refused)
    }

    /// Creates the landing tables that are not there yet, unless the configuration forbids it.
    ///
    /// # Errors
    /// [`SinkError::Targets`] if Postgres refuses.
    pub async fn create_landing(&mut self, tables: &[Arc<Table>]) -> Result<(), SinkError> {
        if !self.session.config().create_tables {
            return Ok(());
        }
        let schema = self.session.schema().to_owned();
        let create = async |open: &mut Connection| {
            for table in tables {
                create::create_landing(open, &schema, table).await?;
            }
            Ok(())
        };
        self.session.with_connection("creating tables", create).await
    }

    /// Creates the landing table of a table that no file declares, unless it is there or the configuration forbids
    /// it, and checks it.
    ///
    /// # Errors
    /// [`SinkError::Targets`] if this table can't be used; what is wrong with the target as a whole is another error.
    pub async fn admit(&mut self, table: &Table) -> Result<(), SinkError> {
        let creates = self.session.config().create_tables;
        let schema = self.session.schema().to_owned();
        let admit = async |open: &mut Connection| {
            if creates {
                create::create_landing(open, &schema, table).await?;
            }
            let mut problems = Vec::new();
            targets::landing_target(open, &schema, table, &mut problems).await?;
            Ok(problems)
        };
        let doing = format!("creating the landing table of {}", table.name);
        refuse(&self.session.with_connection(&doing, admit).await?)
    }

    /// Gives fields that no file declares columns in the landing tables that want it, unless the configuration
    /// forbids it, each in a transaction of its own.
    ///
    /// # Errors
    /// If the target is away; a column that can't be had is no error.
    pub async fn alter(
        &mut self,
        tables: &[Arc<Table>],
        registry: &[SchemaChange],
    ) -> Result<Altered, SinkError> {
        let may_alter = self.session.config().create_tables;
        let schema = self.session.schema().to_owned();
        let scope = AlterScope { schema: &schema, pipeline: &self.pipeline, may_alter };
        self.session
            .with_connection("altering landing tables", async |open| {
                alter::alter(open, scope, tables, registry).await
            })
            .await
    }

    /// Compares the target tables in the database with what will be written to them.
    ///
    /// # Errors
    /// [`SinkError::Targets`] with all problems at once.
    pub async fn check_targets(
        &mut self,
        tables: &[Arc<Table>],
        results: &[Arc<ResultTable>],
    ) -> Result<(), SinkError> {
        let schema = self.session.schema().to_owned();
        let spec = TargetSpec { tables: tables.to_vec(), results: results.to_vec() };
        let check = async |open: &mut Connection| Targets::read(open, &schema, spec).await;
        self.session.with_connection("reading the catalog", check).await.map(drop)
    }

    /// Those of the results whose tables don't take their rows.
    ///
    /// # Errors
    /// If the catalog can't be read.
    pub async fn unfit(
        &mut self,
        results: &[Arc<ResultTable>],
    ) -> Result<BTreeMap<String, Unfit>, SinkError> {
        let schema = self.session.schema().to_owned();
        let check = async |open: &mut Connection| {
            let mut found = BTreeMap::new();
            for result in with_table(results) {
                let read = catalog::read(&open.client, &schema, &result.target).await;
                let catalog = read.map_err(|error| classify("reading the catalog", error))?;
                let unfit = unfit(&schema, result, catalog.as_ref());
                found.extend(unfit.map(|unfit| (result.name.clone(), unfit)));
            }
            Ok(found)
        };
        self.session.with_connection("reading the catalog", check).await
    }
}
