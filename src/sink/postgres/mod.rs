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
//! Changed rows of keyed results go by arrays and `unnest` instead of a staging table. Measured against
//! one on PostgreSQL 15: two thirds of its time or less up to 1,000 rows, the same server CPU above; and
//! no temporary table has to be kept per connection. Only what differs from the target is sent.

mod client;
mod commit;
mod config;
mod dead_letters;
mod doctor;
mod outbox;
mod read;
mod refused_rows;
mod schema;
mod target;
mod targets;

pub use config::{Pooler, PostgresConfig, SslMode};
pub use dead_letters::store::{
    LetterCount, LetterFilter, LetterOrder, LetterState, LetterStore, StoredLetter,
};
pub use doctor::compatibility::Unfit;
pub use doctor::{Requirements, examine};
pub use outbox::{Outbox, Turn};
pub use schema::alter::{Altered, FailedAlter};
pub use schema::create::definition as table_definition;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;

use self::client::connection::Connection;
use self::client::error::classify;
use self::client::response_deadline::ResponseDeadline;
use self::client::watchdog::Watchdog;
use self::commit::drift::TargetDrift;
use self::commit::ledger::Ledger;
use self::commit::preflight;
use self::commit::schema_changes;
use self::read::history;
use self::read::newest_rows;
use self::read::snapshot;
use self::refused_rows::flood::FloodGauge;
use self::schema::alter;
use self::schema::create;
use self::schema::landing_columns::target_name;
use self::schema::migrations;
use self::target::landing;
use self::targets::Targets;
use super::{LedgerRow, PreflightLevel, RefusedRow, Sink, SinkError, new_run_id};
use crate::model::{
    Changelog, Channel, Epoch, EpochCommit, LedgerPosition, ResultTable, SchemaChange, Table,
};

/// The sink of one pipeline and queue in one schema of a Postgres database.
pub struct PostgresSink {
    config: PostgresConfig,
    queue: String,
    ledger: Ledger,
    /// `None` before the first call, after an error, and while a call has it.
    connection: Option<Connection>,
    targets: Targets,
    floods: FloodGauge,
    drift: TargetDrift,
    /// Tables whose rows are looked at before they are applied, and for how many epochs more.
    preflight_levels: HashMap<String, (PreflightLevel, u32)>,
    /// For looking at the rows of two tables at the same time; opened when that is needed.
    second: Option<Connection>,
    /// That has failed: one table after the other, from then on.
    trials_conflict: bool,
    /// Spools of the order that are surely in the database.
    known_spools: usize,
    deadline: ResponseDeadline,
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
        let floods = FloodGauge::new(config.max_refused_percent);
        let deadline = ResponseDeadline::new(&config);
        Ok(Self {
            config,
            queue: queue.into(),
            ledger,
            connection: None,
            targets: Targets::default(),
            floods,
            drift: TargetDrift::default(),
            preflight_levels: HashMap::new(),
            second: None,
            trials_conflict: false,
            known_spools: 0,
            deadline,
        })
    }

    /// Applies the files of `sql/ods` (name, text) that were not applied yet, in the order of their
    /// names and each in its own transaction; then creates the sink's own tables and `cdc_dlq`
    /// where they are missing. To be called before anything else, with or without files.
    ///
    /// # Errors
    /// [`SinkError::MigrationChanged`] for an applied file with another text,
    /// [`SinkError::Migration`] for one that Postgres refuses.
    pub async fn apply_ods(&mut self, files: &[(String, String)]) -> Result<(), SinkError> {
        let watch = self.watch();
        watch
            .over("applying the files of sql/ods", async {
                let mut connection = self.connect().await?;
                migrations::apply(&mut connection, &self.config, files).await?;
                self.connection = Some(connection);
                Ok(())
            })
            .await
    }

    /// Creates the tables of results that are not there yet, unless the configuration forbids it.
    ///
    /// # Errors
    /// [`SinkError::Targets`] if Postgres refuses; with what to do.
    pub async fn create_missing(&mut self, results: &[Arc<ResultTable>]) -> Result<(), SinkError> {
        let watch = self.watch();
        watch
            .over("creating tables", async {
                if !self.config.create_tables {
                    return Ok(());
                }
                let mut connection = self.connect().await?;
                for result in results.iter().filter(|result| result.channel == Channel::Table) {
                    create::create_missing(&mut connection, &self.config.schema, result).await?;
                }
                self.connection = Some(connection);
                Ok(())
            })
            .await
    }

    /// Creates the landing tables of extracted rows that are not there yet, unless the configuration forbids it.
    ///
    /// # Errors
    /// [`SinkError::Targets`] if Postgres refuses.
    pub async fn create_extracted(&mut self, tables: &[Arc<Table>]) -> Result<(), SinkError> {
        let watch = self.watch();
        watch
            .over("creating tables", async {
                if !self.config.create_tables {
                    return Ok(());
                }
                let connection = self.connect().await?;
                for table in tables.iter().filter(|table| table.options.extracted_from.is_some()) {
                    create::create_landing(&connection, &self.config.schema, table).await?;
                }
                self.connection = Some(connection);
                Ok(())
            })
            .await
    }

    /// Creates the landing table of a table that no file declares, unless it is there or the configuration forbids
    /// it, and checks it.
    ///
    /// # Errors
    /// [`SinkError::Targets`] if this table can't be used; what is wrong with the target as a whole is another error.
    pub async fn admit(&mut self, table: &Table) -> Result<(), SinkError> {
        let (schema, mut problems) = (self.config.schema.clone(), Vec::new());
        let connection = self.connect().await?;
        if self.config.create_tables {
            create::create_landing(&connection, &schema, table).await?;
        }
        targets::landing_target(&connection, &schema, table, &mut problems).await?;
        self.connection = Some(connection);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(SinkError::Targets { problems }),
        }
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
        let mut connection = self.connect().await?;
        let (schema, pipeline) = (self.config.schema.clone(), self.ledger.pipeline.clone());
        let place = (schema.as_str(), pipeline.as_str(), self.config.create_tables);
        let altered = alter::alter(&mut connection, place, tables, registry).await?;
        self.connection = Some(connection);
        Ok(altered)
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
        let watch = self.watch();
        watch
            .over("reading the catalog", async {
                let connection = self.connect().await?;
                let spec = (tables.to_vec(), results.to_vec());
                self.targets = Targets::read(&connection, &self.config.schema, spec).await?;
                self.drift.gaps = self.ledger.gaps(&connection.client).await?;
                self.connection = Some(connection);
                Ok(())
            })
            .await
    }

    /// The same for what was checked before: somebody may have altered the tables.
    async fn check_again(&mut self, connection: &Connection) -> Result<(), SinkError> {
        let spec = self.targets.spec.clone();
        self.targets = Targets::read(connection, &self.config.schema, spec).await?;
        Ok(())
    }

    /// Rows of these tables are looked at before they are applied, until that was for nothing for a while.
    pub fn raise_preflight<'a>(
        &mut self,
        tables: impl IntoIterator<Item = (&'a String, PreflightLevel)>,
    ) {
        for (table, level) in tables {
            let known = self.preflight_levels.get(table).map_or(level, |(known, _)| *known);
            self.preflight_levels.insert(table.clone(), (known.max(level), preflight::TRIALS));
        }
    }

    /// The ledger rows above `after`, lowest epochs first.
    pub async fn committed_epochs(
        &mut self,
        after: Option<Epoch>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, SinkError> {
        let watch = self.watch();
        watch
            .over("reading the ledger", async {
                let connection = self.connect().await?;
                let rows = self.ledger.rows(&connection.client, after, limit).await?;
                self.connection = Some(connection);
                Ok(rows)
            })
            .await
    }

    /// Replaces the ledger rows of epochs up to `up_to` by their merged offset ranges; `resume`
    /// says the same as before. The newest row always stays. Returns how many rows went.
    pub async fn compact_ledger(&mut self, up_to: Epoch) -> Result<u64, SinkError> {
        let watch = self.watch();
        watch
            .over("compacting the ledger", async {
                let connection = self.connect().await?;
                let count = self.ledger.compact(&connection.client, up_to).await?;
                self.connection = Some(connection);
                Ok(count)
            })
            .await
    }

    /// What the events of the pipeline have taught about the columns of their tables, oldest first.
    pub async fn schema_changes(&mut self) -> Result<Vec<SchemaChange>, SinkError> {
        let watch = self.watch();
        watch
            .over("reading the schema changes", async {
                let connection = self.connect().await?;
                let (schema, pipeline) = (&self.config.schema, &self.ledger.pipeline);
                let changes = schema_changes::read(&connection.client, schema, pipeline).await?;
                self.connection = Some(connection);
                Ok(changes)
            })
            .await
    }

    fn watch(&self) -> Watchdog {
        Watchdog::new(&self.config, &self.deadline)
    }

    /// Takes the connection; whoever succeeds with it puts it back.
    async fn connect(&mut self) -> Result<Connection, SinkError> {
        match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.config, &self.deadline).await,
        }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn name(&self) -> &str {
        "postgres"
    }

    async fn resume(&mut self) -> Result<LedgerPosition, SinkError> {
        let watch = self.watch();
        watch
            .over("reading the ledger", async {
                let mut connection = self.connect().await?;
                let failed = |error| classify("reading the ledger", error);
                let snapshot = "ISOLATION LEVEL REPEATABLE READ READ ONLY";
                connection.begin(snapshot).await.map_err(failed)?;
                let client = &connection.client;
                let mut position = self.ledger.position(client, &self.queue).await?;
                let (schema, pipeline) = (&self.config.schema, &self.ledger.pipeline);
                position.schema_changes = schema_changes::read(client, schema, pipeline).await?;
                connection.commit().await.map_err(failed)?;
                self.known_spools = position.spools.spools().len();
                self.connection = Some(connection);
                Ok(position)
            })
            .await
    }

    async fn bootstrap(
        &mut self,
        table: &Arc<Table>,
        since: Option<i64>,
    ) -> Result<Vec<Changelog>, SinkError> {
        let watch = self.watch();
        watch
            .over(&format!("reading {}", table.name), async {
                let mut connection = self.connect().await?;
                let schema = self.config.schema.as_str();
                let landing = self.targets.landing.get(&table.name);
                let read = snapshot::read(&mut connection, (schema, landing), table, since);
                let changelogs = read.await?;
                self.connection = Some(connection);
                Ok(changelogs)
            })
            .await
    }

    async fn newest_rows(
        &mut self,
        table: &Arc<Table>,
        (columns, keys): (&[usize], &RecordBatch),
        limit: usize,
    ) -> Result<Option<Vec<Changelog>>, SinkError> {
        let watch = self.watch();
        watch
            .over(&format!("looking for rows of {}", table.name), async {
                if target_name(table).is_none() || keys.num_rows() == 0 {
                    return Ok(Some(Vec::new()));
                }
                let mut connection = self.connect().await?;
                let target = self.targets.landing_of(table)?;
                let asked = (columns, keys);
                let rows =
                    newest_rows::read(&mut connection, (table, target), asked, limit).await?;
                self.connection = Some(connection);
                Ok(rows)
            })
            .await
    }

    async fn history(
        &mut self,
        table: &Arc<Table>,
        keys: &RecordBatch,
    ) -> Result<Vec<Changelog>, SinkError> {
        let watch = self.watch();
        watch
            .over(&format!("reading the history of {}", table.name), async {
                if target_name(table).is_none() || keys.num_rows() == 0 {
                    return Ok(Vec::new());
                }
                let mut connection = self.connect().await?;
                let target = self.targets.landing_of(table)?;
                let rows = history::read(&mut connection, (table, target), keys).await?;
                self.connection = Some(connection);
                Ok(rows)
            })
            .await
    }

    fn needs_old_values(&self, table: &Table) -> Vec<usize> {
        let target = self.targets.landing.get(&table.name);
        target.map_or_else(Vec::new, |target| landing::needs_old_values(table, target))
    }

    async fn refused(&mut self, landing: &[Changelog]) -> Result<Vec<RefusedRow>, SinkError> {
        let watch = self.watch();
        watch
            .over("looking for rows that are refused", async {
                preflight::refused(self, landing).await
            })
            .await
    }

    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let deadline = self.deadline.clone();
        let doing = format!("committing epoch {}", commit.epoch);
        deadline.enforce(&doing, self.write(commit)).await
    }
}
