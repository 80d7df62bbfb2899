//! Reads and compacts the ledger of a pipeline, beside its processor.

use std::sync::Arc;

use super::client::connection::Connection;
use super::client::session::DatabaseSession;
use super::commit::ledger::Ledger;
use super::commit::{lost_epochs, schema_changes};
use super::config::PostgresConfig;
use crate::model::{Epoch, SchemaChange, Table};
use crate::sink::{LedgerHistory, LedgerRow, LedgerTraces, SinkError, new_run_id};

/// What may wait in the ledger.
#[derive(Debug, Clone, Copy)]
pub struct LedgerLimit {
    pub epochs: u64,
    /// Of their offsets.
    pub bytes: u64,
}

/// What a pipeline has committed, by a connection of its own.
pub struct LedgerReader {
    session: DatabaseSession,
    ledger: Ledger,
}

impl LedgerReader {
    /// Does not connect yet.
    ///
    /// # Errors
    /// [`SinkError::Config`] with everything that is wrong.
    pub fn new(config: PostgresConfig, pipeline: impl Into<String>) -> Result<Self, SinkError> {
        Ok(Self::over(DatabaseSession::new(config)?, pipeline.into()))
    }

    pub(super) fn over(session: DatabaseSession, pipeline: String) -> Self {
        let ledger = Ledger::new(session.schema(), pipeline, new_run_id());
        Self { session, ledger }
    }

    /// The ledger rows above `after`, lowest epochs first.
    ///
    /// # Errors
    /// If the ledger can't be read.
    pub async fn committed_epochs(
        &mut self,
        after: Option<Epoch>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, SinkError> {
        let Self { session, ledger } = self;
        let doing = "reading the ledger";
        session
            .with_connection(doing, async |open| ledger.rows(&open.client, after, limit).await)
            .await
    }

    /// Which epochs the ledger has, and by whom.
    ///
    /// # Errors
    /// If the ledger can't be read.
    pub async fn history(&mut self) -> Result<LedgerHistory, SinkError> {
        let Self { session, ledger } = self;
        let schema = session.schema().to_owned();
        let read = async |open: &mut Connection| {
            let client = &open.client;
            let runs = ledger.runs(client).await?;
            let newest = runs.keys().next_back().copied();
            let accepted = lost_epochs::accepted(client, &schema, &ledger.pipeline).await?;
            Ok(LedgerHistory { newest, runs, accepted })
        };
        session.with_connection("reading the ledger", read).await
    }

    /// What is left of the ledger of a pipeline that has no epoch in it; `landing` is where its events have landed.
    ///
    /// # Errors
    /// If a table can't be read.
    pub async fn traces(
        &mut self,
        landing: &[Arc<Table>],
    ) -> Result<Option<LedgerTraces>, SinkError> {
        let Self { session, ledger } = self;
        let schema = session.schema().to_owned();
        let look = async |open: &mut Connection| {
            lost_epochs::traces(&open.client, &schema, &ledger.pipeline, landing).await
        };
        session.with_connection("looking for what is left of the ledger", look).await
    }

    /// Replaces the ledger rows of epochs up to `up_to` by their merged offset ranges; a processor resumes where it
    /// would have without. The newest row always stays. Returns how many rows went.
    ///
    /// # Errors
    /// If the database can't be reached.
    pub async fn compact_ledger(&mut self, up_to: Epoch) -> Result<u64, SinkError> {
        let Self { session, ledger } = self;
        let doing = "compacting the ledger";
        session.with_connection(doing, async |open| ledger.compact(&open.client, up_to).await).await
    }

    /// Merges the offsets of the oldest epochs, as [`Self::compact_ledger`], if more wait in the ledger than the limit says.
    /// Returns how many rows went.
    ///
    /// # Errors
    /// If the database can't be reached.
    pub async fn bound(&mut self, limit: LedgerLimit) -> Result<u64, SinkError> {
        let Self { session, ledger } = self;
        let bound = async |open: &mut Connection| {
            let beyond = ledger.beyond(&open.client, limit.epochs, limit.bytes).await?;
            match beyond {
                Some(up_to) => ledger.compact(&open.client, up_to).await,
                None => Ok(0),
            }
        };
        session.with_connection("compacting the ledger", bound).await
    }

    /// What the events of the pipeline have taught about the columns of their tables, oldest first.
    ///
    /// # Errors
    /// If the registry can't be read.
    pub async fn schema_changes(&mut self) -> Result<Vec<SchemaChange>, SinkError> {
        schema_changes::read_alone(&mut self.session, &self.ledger.pipeline).await
    }
}
