//! The sink of a pipeline: epochs are committed, and landing tables read.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;

use super::client::connection::Connection;
use super::client::error::classify;
use super::client::quote;
use super::client::session::DatabaseSession;
use super::commit::preflight::Preflight;
use super::commit::{EpochCommitter, schema_changes};
use super::config::PostgresConfig;
use super::ledger_reader::LedgerReader;
use super::read::committed::{self, DeadEvents};
use super::read::{changes, history, snapshot};
use super::schema::landing_columns::target_name;
use super::schema::system_tables::DEAD_LETTERS;
use super::schema_admin::SchemaAdmin;
use super::target::landing;
use super::targets::{TargetSpec, Targets};
use crate::model::{
    Changelog, CommittedEpoch, EpochCommit, EventId, LedgerPosition, Offset, OffsetSet,
    ResultTable, Table,
};
use crate::sink::history::messages_since;
use crate::sink::{PreflightLevel, RefusedRow, Sink, SinkError, TakeRows};

/// The sink of one pipeline and queue in one schema of a Postgres database.
pub struct PostgresSink {
    queue: String,
    session: DatabaseSession,
    targets: Targets,
    preflight: Preflight,
    committer: EpochCommitter,
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
        let session = DatabaseSession::new(config)?;
        let pipeline = pipeline.into();
        Ok(Self {
            queue: queue.into(),
            preflight: Preflight::new(session.connector().clone(), pipeline.clone()),
            committer: EpochCommitter::new(session.config(), pipeline),
            targets: Targets::default(),
            session,
        })
    }

    /// Prepares the tables of this sink, by a connection of its own.
    pub fn schema_admin(&self) -> SchemaAdmin {
        let session = DatabaseSession::unchecked(self.session.config().clone());
        SchemaAdmin::over(session, self.committer.pipeline().to_owned())
    }

    /// Reads the ledger of this sink, by a connection of its own.
    pub fn ledger_reader(&self) -> LedgerReader {
        let session = DatabaseSession::unchecked(self.session.config().clone());
        LedgerReader::over(session, self.committer.pipeline().to_owned())
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
        let schema = self.session.schema().to_owned();
        let spec = TargetSpec { tables: tables.to_vec(), results: results.to_vec() };
        let Self { session, targets, committer, .. } = self;
        let check = async |open: &mut Connection| {
            *targets = Targets::read(open, &schema, spec).await?;
            committer.read_gaps(open).await
        };
        session.with_connection("reading the catalog", check).await
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn name(&self) -> &str {
        "postgres"
    }

    fn run_id(&self) -> &str {
        self.committer.run_id()
    }

    async fn resume(&mut self) -> Result<LedgerPosition, SinkError> {
        let schema = self.session.schema().to_owned();
        let Self { session, committer, queue, .. } = self;
        let read = async |open: &mut Connection| {
            let failed = |error| classify("reading the ledger", error);
            let snapshot = "ISOLATION LEVEL REPEATABLE READ READ ONLY";
            open.begin(snapshot, "").await.map_err(failed)?;
            let mut position = committer.position(open, queue).await?;
            let pipeline = committer.pipeline();
            position.schema_changes = schema_changes::read(&open.client, &schema, pipeline).await?;
            open.commit().await.map_err(failed)?;
            Ok(position)
        };
        session.with_connection("reading the ledger", read).await
    }

    async fn each_newest(
        &mut self,
        table: &Arc<Table>,
        since: Option<i64>,
        take: TakeRows<'_>,
    ) -> Result<(), SinkError> {
        let schema = self.session.schema().to_owned();
        let target = self.targets.landing.get(&table.name);
        let query = snapshot::NewestRows { schema: &schema, target, table, since };
        let read = async |open: &mut Connection| snapshot::read(open, query, take).await;
        self.session.with_connection(&format!("reading {}", table.name), read).await
    }

    async fn committed_since(
        &mut self,
        kept: &CommittedEpoch,
    ) -> Result<Option<OffsetSet>, SinkError> {
        let Self { session, committer, .. } = self;
        let read = async |open: &mut Connection| committer.epochs_from(open, kept.epoch).await;
        let rows = session.with_connection("reading the ledger", read).await?;
        Ok(messages_since(kept, &rows))
    }

    async fn each_change(
        &mut self,
        table: &Arc<Table>,
        messages: &OffsetSet,
        take: TakeRows<'_>,
    ) -> Result<(), SinkError> {
        if target_name(table).is_none() || messages.is_empty() {
            return Ok(());
        }
        let schema = self.session.schema().to_owned();
        let landing = self.targets.landing_of(table)?;
        let asked = changes::ChangesOf { schema: &schema, table, landing, messages };
        let read = async |open: &mut Connection| changes::read(open, asked, take).await;
        self.session.with_connection(&format!("reading {}", table.name), read).await
    }

    async fn history(
        &mut self,
        table: &Arc<Table>,
        keys: &RecordBatch,
    ) -> Result<Vec<Changelog>, SinkError> {
        if target_name(table).is_none() || keys.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let schema = self.session.schema().to_owned();
        let landing = self.targets.landing_of(table)?;
        let asked = history::KeyHistory { schema: &schema, table, landing, keys };
        let read = async |open: &mut Connection| history::read(open, asked).await;
        self.session.with_connection(&format!("reading the history of {}", table.name), read).await
    }

    async fn committed(&mut self, events: &[EventId]) -> Result<HashSet<Offset>, SinkError> {
        let letters = quote::table(&self.session.config().schema, DEAD_LETTERS);
        let landing = self.targets.event_ids(&self.session.config().schema);
        let dead = DeadEvents { table: &letters, pipeline: self.committer.pipeline() };
        let read =
            async |open: &mut Connection| committed::read(open, &landing, dead, events).await;
        self.session.with_connection("looking for events that are committed", read).await
    }

    fn raise_preflight(&mut self, levels: &[(String, PreflightLevel)]) {
        self.preflight.raise(levels);
    }

    fn needs_old_values(&self, table: &Table) -> Vec<usize> {
        let target = self.targets.landing.get(&table.name);
        target.map_or_else(Vec::new, |target| landing::needs_old_values(table, target))
    }

    async fn refused(&mut self, landing: &[Changelog]) -> Result<Vec<RefusedRow>, SinkError> {
        self.preflight.refused(&mut self.session, &mut self.targets, landing).await
    }

    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let deadline = self.session.connector().deadline.clone();
        let doing = format!("committing epoch {}", commit.epoch);
        let written = self.committer.write(&mut self.session, &mut self.targets, commit);
        deadline.enforce(&doing, written).await
    }
}
