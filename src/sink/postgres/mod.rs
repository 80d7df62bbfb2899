//! Postgres: landing tables, results, dead letters and the ledger, one transaction per epoch.
//!
//! Start: [`PostgresSink::apply_ods`] (files of `sql/ods` and the sink's own tables), then
//! [`PostgresSink::check_targets`], then [`Sink::resume`]. A new [`PostgresSink::check_targets`]
//! while running swaps targets in; if it fails, the old ones stay.
//!
//! The connection is made when it is needed and dropped after any error, which ends its
//! transaction; the next call makes a new one. Nothing here waits and tries again: the pipeline
//! does, by [`SinkError::recovery`].
//!
//! Keyed results go by arrays and `unnest` instead of a staging table. Measured against one on
//! PostgreSQL 15: two thirds of its time or less up to 1,000 rows, the same server CPU above; and
//! no temporary table has to be kept per connection.

mod bootstrap;
mod catalog;
mod config;
mod connection;
mod create;
mod dead_letters;
mod epoch;
mod fault;
mod history;
mod keyed;
mod landing;
mod ledger;
mod migrations;
mod newest_rows;
mod numeric;
mod outbox;
mod own_tables;
mod quote;
mod rows;
mod schema_changes;
mod target;
mod truncate;
mod value;

pub use config::{PostgresConfig, Secret, SslMode};
pub use outbox::{Outbox, Turn};

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;

use self::connection::Connection;
use self::epoch::{EpochWrite, Failure, Written};
use self::fault::classify;
use self::keyed::ResultTarget;
use self::ledger::{Ledger, epoch_number};
use self::rows::{Bound, FEW_ROWS, Rows};
use self::target::Target;
use super::{LedgerRow, Sink, SinkError, new_run_id};
use crate::changelog::{
    Changelog, Channel, Epoch, EpochCommit, LedgerPosition, ResultChanges, ResultTable,
    SchemaChange, Table,
};

/// The sink of one pipeline and queue in one schema of a Postgres database.
pub struct PostgresSink {
    config: PostgresConfig,
    queue: String,
    ledger: Ledger,
    /// `None` before the first call, after an error, and while a call has it.
    connection: Option<Connection>,
    targets: Targets,
    /// Spools of the order that are surely in the database.
    known_spools: usize,
}

/// Checked targets by the names of their tables and results.
#[derive(Default)]
struct Targets {
    landing: HashMap<String, Target>,
    results: HashMap<String, ResultTarget>,
    dead_letters: Option<Target>,
}

impl PostgresSink {
    /// Does not connect yet.
    ///
    /// # Errors
    /// [`SinkError::Config`] with everything that is wrong.
    pub fn new(
        config: PostgresConfig,
        pipeline: impl Into<String>,
        queue: impl Into<String>,
    ) -> Result<Self, SinkError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(SinkError::Config { problems });
        }
        let ledger = Ledger::new(&config.schema, pipeline.into(), new_run_id());
        let (queue, targets) = (queue.into(), Targets::default());
        Ok(Self { config, queue, ledger, connection: None, targets, known_spools: 0 })
    }

    /// Applies the files of `sql/ods` (name, text) that were not applied yet, in the order of their
    /// names and each in its own transaction; then creates the sink's own tables and `cdc_dlq`
    /// where they are missing. To be called before anything else, with or without files.
    ///
    /// # Errors
    /// [`SinkError::MigrationChanged`] for an applied file with another text,
    /// [`SinkError::Migration`] for one that Postgres refuses.
    pub async fn apply_ods(&mut self, files: &[(String, String)]) -> Result<(), SinkError> {
        let connection = self.connect().await?;
        migrations::apply(&connection, &self.config, files).await?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Creates the tables of results that are not there yet, unless the configuration forbids it.
    ///
    /// # Errors
    /// [`SinkError::Targets`] if Postgres refuses; with what to do.
    pub async fn create_missing(&mut self, results: &[Arc<ResultTable>]) -> Result<(), SinkError> {
        if !self.config.create_tables {
            return Ok(());
        }
        let connection = self.connect().await?;
        for result in results.iter().filter(|result| result.channel == Channel::Table) {
            create::create_missing(&connection, &self.config.schema, result).await?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Compares the target tables in the database with what will be written to them.
    ///
    /// # Errors
    /// [`SinkError::Targets`] with all problems at once; the targets of before then stay in use.
    pub async fn check_targets(
        &mut self,
        tables: &[Arc<Table>],
        results: &[Arc<ResultTable>],
    ) -> Result<(), SinkError> {
        let connection = self.connect().await?;
        let (mut checked, mut problems) = (Targets::default(), Vec::new());
        let schema = self.config.schema.as_str();
        for table in tables {
            let Some(name) = landing::target_name(table) else { continue };
            if let Some(catalog) = catalog_of(&connection, schema, name, &mut problems).await? {
                let target = landing::check(table, schema, (name, &catalog), &mut problems);
                checked.landing.insert(table.name.clone(), target);
            }
        }
        for result in results.iter().filter(|result| result.channel == Channel::Table) {
            let name = &result.target;
            if let Some(catalog) = catalog_of(&connection, schema, name, &mut problems).await? {
                let target = ResultTarget::check(result, schema, &catalog, &mut problems);
                checked.results.insert(result.name.clone(), target);
            }
        }
        let dlq = catalog_of(&connection, schema, dead_letters::TABLE, &mut problems).await?;
        checked.dead_letters =
            dlq.map(|catalog| dead_letters::check(schema, &catalog, &mut problems));
        self.connection = Some(connection);
        if !problems.is_empty() {
            return Err(SinkError::Targets { problems });
        }
        self.targets = checked;
        Ok(())
    }

    /// The ledger rows above `after`, lowest epochs first.
    pub async fn committed_epochs(
        &mut self,
        after: Option<Epoch>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, SinkError> {
        let connection = self.connect().await?;
        let rows = self.ledger.rows(&connection.client, after, limit).await?;
        self.connection = Some(connection);
        Ok(rows)
    }

    /// Replaces the ledger rows of epochs up to `up_to` by their merged offset ranges; `resume`
    /// says the same as before. The newest row always stays. Returns how many rows went.
    pub async fn compact_ledger(&mut self, up_to: Epoch) -> Result<u64, SinkError> {
        let connection = self.connect().await?;
        let count = self.ledger.compact(&connection.client, up_to).await?;
        self.connection = Some(connection);
        Ok(count)
    }

    /// What the events of the pipeline have taught about the columns of their tables, oldest first.
    pub async fn schema_changes(&mut self) -> Result<Vec<SchemaChange>, SinkError> {
        let connection = self.connect().await?;
        let (schema, pipeline) = (&self.config.schema, &self.ledger.pipeline);
        let changes = schema_changes::read(&connection.client, schema, pipeline).await?;
        self.connection = Some(connection);
        Ok(changes)
    }

    /// Takes the connection; whoever succeeds with it puts it back.
    async fn connect(&mut self) -> Result<Connection, SinkError> {
        match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.config).await,
        }
    }

    /// Encodes an epoch.
    fn prepare<'a>(&'a self, commit: &EpochCommit) -> Result<EpochWrite<'a>, SinkError> {
        let mut write = EpochWrite {
            epoch: commit.epoch,
            ledger_row: self.ledger.insert(commit)?,
            statements: Vec::new(),
            copies: Vec::new(),
            truncates: Vec::new(),
        };
        if commit.spools.spools().len() > self.known_spools {
            write.statements.push(self.ledger.insert_spools(commit));
        }
        let landed = commit.landing.iter().filter(|changelog| !changelog.is_empty());
        for changelog in landed.filter(|c| landing::target_name(&c.table).is_some()) {
            let target = self.targets.landing.get(&changelog.table.name);
            let target = target.ok_or_else(|| unchecked(&changelog.table.name))?;
            append(&mut write, target, landing::rows(changelog, target, commit.closed_at)?)?;
            write.truncates.extend(truncate::statements(changelog, target));
        }
        for changes in commit.results.iter().filter(|changes| !changes.is_empty()) {
            if changes.table.channel != Channel::Table {
                self.post(commit, changes, &mut write)?;
                continue;
            }
            let target = self.targets.results.get(&changes.table.name);
            let target = target.ok_or_else(|| unchecked(&changes.table.name))?;
            if changes.is_new_definition {
                write.statements.extend(target.delete_all());
                write.statements.push(self.ledger.define_result(&changes.table));
            }
            write.statements.extend(target.deletes(changes)?);
            let rows = target.rows(changes, commit.closed_at)?;
            match target.upsert_sql() {
                Some(sql) => write.statements.extend(rows.bind(sql)?),
                None => append(&mut write, &target.target, rows)?,
            }
        }
        if !commit.retired.is_empty() {
            write.statements.push(self.ledger.retire_results(&commit.retired));
        }
        write.statements.extend(self.dead_letters(commit)?);
        if !commit.schema_changes.is_empty() {
            let (schema, pipeline) = (&self.config.schema, &self.ledger.pipeline);
            write.statements.push(schema_changes::insert(schema, pipeline, commit)?);
        }
        Ok(write)
    }

    /// Adds what is to be posted, and notes a new definition.
    fn post(
        &self,
        commit: &EpochCommit,
        changes: &ResultChanges,
        write: &mut EpochWrite<'_>,
    ) -> Result<(), SinkError> {
        if changes.is_new_definition {
            write.statements.push(self.ledger.define_result(&changes.table));
        }
        let place = (self.config.schema.as_str(), self.ledger.pipeline.as_str());
        write.statements.extend(outbox::inserts(changes, commit, place)?);
        Ok(())
    }

    fn dead_letters(&self, commit: &EpochCommit) -> Result<Vec<Bound>, SinkError> {
        if commit.dead_letters.is_empty() {
            return Ok(Vec::new());
        }
        let target = self.targets.dead_letters.as_ref();
        let target = target.ok_or_else(|| unchecked(dead_letters::TABLE))?;
        dead_letters::inserts(commit, target, &self.ledger.run_id)
    }

    /// The epoch is in the ledger by our hand, or by somebody else's.
    async fn ours_or_fenced(
        &self,
        connection: &mut Connection,
        epoch: Epoch,
    ) -> Result<(), SinkError> {
        match self.ledger.is_ours(connection, epoch).await? {
            true => Ok(()),
            false => Err(SinkError::Fenced { pipeline: self.ledger.pipeline.clone(), epoch }),
        }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn name(&self) -> &str {
        "postgres"
    }

    async fn resume(&mut self) -> Result<LedgerPosition, SinkError> {
        let connection = self.connect().await?;
        let failed = |error| classify("reading the ledger", error);
        let client = &connection.client;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        client.batch_execute(begin).await.map_err(failed)?;
        let mut position = self.ledger.position(client, &self.queue).await?;
        let (schema, pipeline) = (&self.config.schema, &self.ledger.pipeline);
        position.schema_changes = schema_changes::read(client, schema, pipeline).await?;
        client.batch_execute("COMMIT").await.map_err(failed)?;
        self.known_spools = position.spools.spools().len();
        self.connection = Some(connection);
        Ok(position)
    }

    async fn bootstrap(
        &mut self,
        table: &Arc<Table>,
        since: Option<i64>,
    ) -> Result<Vec<Changelog>, SinkError> {
        let connection = self.connect().await?;
        let schema = self.config.schema.as_str();
        let landing = self.targets.landing.get(&table.name);
        let read = bootstrap::read(&connection.client, (schema, landing), table, since);
        let changelogs = read.await?;
        self.connection = Some(connection);
        Ok(changelogs)
    }

    async fn newest_rows(
        &mut self,
        table: &Arc<Table>,
        (columns, keys): (&[usize], &RecordBatch),
        limit: usize,
    ) -> Result<Option<Vec<Changelog>>, SinkError> {
        if landing::target_name(table).is_none() || keys.num_rows() == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut connection = self.connect().await?;
        let target = self.targets.landing.get(&table.name);
        let target = target.ok_or_else(|| unchecked(&table.name))?;
        let asked = (columns, keys);
        let rows = newest_rows::read(&mut connection, (table, target), asked, limit).await?;
        self.connection = Some(connection);
        Ok(rows)
    }

    async fn history(
        &mut self,
        table: &Arc<Table>,
        keys: &RecordBatch,
    ) -> Result<Vec<Changelog>, SinkError> {
        if landing::target_name(table).is_none() || keys.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let mut connection = self.connect().await?;
        let target = self.targets.landing.get(&table.name);
        let target = target.ok_or_else(|| unchecked(&table.name))?;
        let rows = history::read(&mut connection, (table, target), keys).await?;
        self.connection = Some(connection);
        Ok(rows)
    }

    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let mut connection = self.connect().await?;
        let written = self.prepare(commit)?.run(&mut connection, &self.ledger).await;
        match written {
            Ok(Written::Committed) => {}
            Ok(Written::NotAbove) => self.ours_or_fenced(&mut connection, commit.epoch).await?,
            Err(Failure::Nothing(error)) => return Err(error),
            Err(Failure::InDoubt(error)) => {
                drop(connection);
                connection = self.connect().await?;
                // Not there: rolled back, or the old server process is still at it. The next
                // `commit` waits for that process at the ledger's primary key and then knows.
                if !self.ledger.is_ours(&mut connection, commit.epoch).await? {
                    return Err(error);
                }
                tracing::warn!(
                    epoch = commit.epoch.0,
                    "answer of a commit was lost; it is in the ledger"
                );
            }
        }
        self.known_spools = self.known_spools.max(commit.spools.spools().len());
        self.connection = Some(connection);
        Ok(())
    }
}

fn append<'a>(
    write: &mut EpochWrite<'a>,
    target: &Target,
    rows: Rows<'a>,
) -> Result<(), SinkError> {
    if rows.count() > FEW_ROWS {
        write.copies.push(rows);
    } else {
        write.statements.extend(rows.bind(&target.insert_sql(""))?);
    }
    Ok(())
}

async fn catalog_of(
    connection: &Connection,
    schema: &str,
    table: &str,
    problems: &mut Vec<String>,
) -> Result<Option<catalog::CatalogTable>, SinkError> {
    let read = catalog::read(&connection.client, schema, table).await;
    let catalog = read.map_err(|error| classify("reading the catalog", error))?;
    if catalog.is_none() {
        let (schema, table) = quote::split(schema, table);
        problems.push(format!("{table}: there is no such table in schema {schema}"));
    }
    Ok(catalog)
}

fn unchecked(name: &str) -> SinkError {
    SinkError::Targets { problems: vec![format!("{name}: its target was not checked at start")] }
}
