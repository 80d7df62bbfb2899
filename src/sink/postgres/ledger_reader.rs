//! Reads and compacts the ledger of a pipeline, beside its processor.

use super::client::session::DatabaseSession;
use super::commit::ledger::Ledger;
use super::commit::schema_changes;
use super::config::PostgresConfig;
use crate::model::{Epoch, SchemaChange};
use crate::sink::{LedgerRow, SinkError, new_run_id};

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

    /// What the events of the pipeline have taught about the columns of their tables, oldest first.
    ///
    /// # Errors
    /// If the registry can't be read.
    pub async fn schema_changes(&mut self) -> Result<Vec<SchemaChange>, SinkError> {
        schema_changes::read_alone(&mut self.session, &self.ledger.pipeline).await
    }
}
