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
mod careful;
mod catalog;
mod config;
mod connection;
mod create;
mod dead_letters;
mod epoch;
mod fault;
mod fit;
mod flood;
mod history;
mod isolate;
mod keyed;
mod landing;
mod ledger;
mod migrations;
mod newest_rows;
mod numeric;
mod outbox;
mod own_tables;
mod piece;
mod quote;
mod refused;
mod refusing;
mod rows;
mod schema_changes;
mod silence;
mod sqlstate;
mod target;
mod targets;
mod tls;
mod truncate;
mod value;

pub use config::{Pooler, PostgresConfig, Secret, SslMode};
pub use outbox::{Outbox, Turn};

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;

use self::careful::Judge;
use self::connection::Connection;
use self::epoch::{EpochWrite, Failure, Written, roll_back};
use self::fault::classify;
use self::flood::FloodGauge;
use self::ledger::{Ledger, epoch_number};
use self::piece::{How, Origin, Piece, RowsPiece};
use self::rows::Bound;
use self::silence::Silence;
use self::targets::Targets;
use super::{LedgerRow, RefusedRow, Sink, SinkError, new_run_id};
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
    floods: FloodGauge,
    /// Tables whose rows are tried out, and for how many epochs more.
    distrusted: HashMap<String, u32>,
    /// Spools of the order that are surely in the database.
    known_spools: usize,
    silence: Silence,
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
        let silence = Silence::new(&config);
        Ok(Self {
            config,
            queue: queue.into(),
            ledger,
            connection: None,
            targets: Targets::default(),
            floods,
            distrusted: HashMap::new(),
            known_spools: 0,
            silence,
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
        let mut connection = self.connect().await?;
        migrations::apply(&mut connection, &self.config, files).await?;
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
        let mut connection = self.connect().await?;
        for result in results.iter().filter(|result| result.channel == Channel::Table) {
            create::create_missing(&mut connection, &self.config.schema, result).await?;
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
        let described = (tables.to_vec(), results.to_vec());
        self.targets = Targets::read(&connection, &self.config.schema, described).await?;
        self.connection = Some(connection);
        Ok(())
    }

    /// The same for what was checked before: somebody may have altered the tables.
    async fn check_again(&mut self, connection: &Connection) -> Result<(), SinkError> {
        let described = self.targets.described.clone();
        self.targets = Targets::read(connection, &self.config.schema, described).await?;
        Ok(())
    }

    /// Rows of these tables are tried out before they are applied, until that was for nothing for a while.
    pub fn distrust<'a>(&mut self, tables: impl IntoIterator<Item = &'a String>) {
        self.distrusted.extend(tables.into_iter().map(|table| (table.clone(), refusing::TRIALS)));
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
            None => Connection::open(&self.config, &self.silence).await,
        }
    }

    /// The parts of an epoch's transaction.
    fn prepare<'a>(&'a self, commit: &'a EpochCommit) -> Result<EpochWrite<'a>, SinkError> {
        let mut write = EpochWrite {
            epoch: commit.epoch,
            ledger_row: self.ledger.insert(commit)?,
            pieces: Vec::new(),
            truncates: Vec::new(),
        };
        if commit.spools.spools().len() > self.known_spools {
            write.pieces.push(Piece::Own(self.ledger.insert_spools(commit)));
        }
        for changelog in commit.landing.iter().filter(|changelog| !changelog.is_empty()) {
            let piece = self.targets.landing_piece(changelog, commit.closed_at)?;
            write.pieces.extend(piece.map(Piece::Rows));
            if let Some(target) = self.targets.landing.get(&changelog.table.name) {
                write.truncates.extend(truncate::statements(changelog, target));
            }
        }
        for changes in commit.results.iter().filter(|changes| !changes.is_empty()) {
            if changes.table.channel != Channel::Table {
                self.post(commit, changes, &mut write)?;
                continue;
            }
            let target = self.targets.results.get(&changes.table.name);
            let target = target.ok_or_else(|| unchecked(&changes.table.name))?;
            if changes.is_new_definition {
                write.pieces.extend(target.delete_all().map(Piece::Own));
                write.pieces.push(Piece::Own(self.ledger.define_result(&changes.table)));
            }
            if let Some((rows, sql)) = target.deletes(changes)? {
                let (how, origin) = (How::Statement(sql.to_owned()), Origin::Deletes(changes));
                write.pieces.push(Piece::Rows(RowsPiece { rows, how, origin }));
            }
            let rows = target.rows(changes, commit.closed_at)?;
            let how = target.upsert_sql();
            let how = how.map_or(How::Append, |sql| How::Statement(sql.to_owned()));
            let origin = Origin::Upserts(changes);
            write.pieces.push(Piece::Rows(RowsPiece { rows, how, origin }));
        }
        if !commit.retired.is_empty() {
            write.pieces.push(Piece::Own(self.ledger.retire_results(&commit.retired)));
        }
        write.pieces.extend(self.dead_letters(commit)?.into_iter().map(Piece::Own));
        if !commit.schema_changes.is_empty() {
            let (schema, pipeline) = (&self.config.schema, &self.ledger.pipeline);
            write.pieces.push(Piece::Own(schema_changes::insert(schema, pipeline, commit)?));
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
            write.pieces.push(Piece::Own(self.ledger.define_result(&changes.table)));
        }
        let place = (self.config.schema.as_str(), self.ledger.pipeline.as_str());
        let rows = outbox::inserts(changes, commit, place)?;
        write.pieces.extend(rows.into_iter().map(Piece::Own));
        Ok(())
    }

    fn dead_letters(&self, commit: &EpochCommit) -> Result<Vec<Bound>, SinkError> {
        if commit.dead_letters.is_empty() {
            return Ok(Vec::new());
        }
        let target = self.targets.dead_letters.as_ref();
    fn needs_old_values(&self, table: &Table) -> Vec<usize> {
        let target = self.targets.landing.get(&table.name);
        target.map_or_else(Vec::new, |target| landing::needs_old_values(table, target))
    }

        let target = target.ok_or_else(|| unchecked(dead_letters::TABLE))?;
        dead_letters::inserts(commit, target, &self.ledger.run_id)
    }

    /// Piece by piece, leaving out rows of results that are refused.
    async fn commit_carefully(
        &mut self,
        connection: &mut Connection,
        commit: &EpochCommit,
    ) -> Result<Written, Failure> {
        let mut floods = std::mem::replace(&mut self.floods, FloodGauge::new(0));
        let judge = Judge {
            floods: &mut floods,
            letters: self.targets.dead_letters.as_ref(),
            closed_at: commit.closed_at,
        };
        let written = match self.prepare(commit) {
            Ok(write) => write.run_carefully(connection, &self.ledger, judge).await,
            Err(error) => Err(Failure::Nothing(error)),
        };
        self.floods = floods;
        written
    }

    /// Writes an epoch, and finds out what became of it.
    async fn write(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let mut connection = self.connect().await?;
        let mut written = self.prepare(commit)?.run(&mut connection, &self.ledger).await;
        if let Err(Failure::Nothing(SinkError::Data(_) | SinkError::Refused { .. })) = &written {
            match connection.is_out_of_step {
                true => connection = self.connect().await?,
                false => roll_back(&mut connection).await?,
            }
            self.check_again(&connection).await?;
            written = self.commit_carefully(&mut connection, commit).await;
        }
        match written {
            Ok(Written::Committed) => {}
            Ok(Written::NotAbove) => self.ours_or_fenced(&connection, commit.epoch).await?,
            Err(Failure::Nothing(error)) => return Err(error),
            Err(Failure::InDoubt(error)) => {
                drop(connection);
                connection = self.connect().await?;
                // Not there: rolled back, or the old server process is still at it. The next
                // `commit` waits for that process at the ledger's primary key and then knows.
                if !self.ledger.is_ours(&connection, commit.epoch).await? {
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

    /// The epoch is in the ledger by our hand, or by somebody else's.
    async fn ours_or_fenced(&self, connection: &Connection, epoch: Epoch) -> Result<(), SinkError> {
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
    }

    async fn bootstrap(
        &mut self,
        table: &Arc<Table>,
        since: Option<i64>,
    ) -> Result<Vec<Changelog>, SinkError> {
        let mut connection = self.connect().await?;
        let schema = self.config.schema.as_str();
        let landing = self.targets.landing.get(&table.name);
        let read = bootstrap::read(&mut connection, (schema, landing), table, since);
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

    async fn refused(&mut self, landing: &[Changelog]) -> Result<Vec<RefusedRow>, SinkError> {
        refusing::refused(self, landing).await
    }

    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let silence = self.silence.clone();
        let doing = format!("committing epoch {}", commit.epoch);
        silence.limited(&doing, self.write(commit)).await
    }
}

fn unchecked(name: &str) -> SinkError {
    SinkError::Targets { problems: vec![format!("{name}: its target was not checked at start")] }
}
