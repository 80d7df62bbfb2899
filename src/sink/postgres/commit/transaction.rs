//! One epoch in one transaction.
//!
//! BEGIN, the ledger row, and all that is small go out together and cost one round trip. What is
//! large follows by COPY. COMMIT and the question whether the ledger has our row are the last round
//! trip: the client library hides the command tag of COMMIT, which would say ROLLBACK for a failed
//! transaction, and the ledger row says the same.

use futures::future::join_all;
use tokio_postgres::{Error, Statement};

use super::ledger::Ledger;
use crate::model::Epoch;
use crate::sink::SinkError;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::{classify, classify_write, is_unique_violation};
use crate::sink::postgres::schema::system_tables::{LEDGER, epoch_number};
use crate::sink::postgres::target::row_write::{PendingStatement, TargetWrite};
use crate::sink::postgres::target::rows::BoundStatement;

/// What later statements of a transaction see, whatever the role's default is.
pub(crate) const READ_COMMITTED: &str = "ISOLATION LEVEL READ COMMITTED";

/// How statements with arrays of keys find their rows, whatever the tables held when they were planned: an empty
/// table would be scanned, and then again for every epoch, when it has grown.
pub(crate) const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
    SET LOCAL enable_mergejoin = off";
/// A truncate reads its table as a whole, and takes as long as that is large: time limits are for ordinary epochs.
const AS_A_WHOLE: &str = "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on; \
    SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on";

/// Everything that the transaction sends.
pub(crate) struct EpochWrite<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) ledger_row: BoundStatement,
    /// In this order: landing tables first, and deletes of a table before its upserts, because they make
    /// room in its other unique indexes.
    pub(crate) writes: Vec<TargetWrite<'a>>,
    /// After everything else has landed.
    pub(crate) truncates: Vec<BoundStatement>,
}

pub(crate) enum CommitOutcome {
    Committed,
    /// The ledger has this epoch or a later one; nothing was written.
    NotAbove,
}

pub(crate) enum CommitFailure {
    /// COMMIT was not sent: the transaction ends with its connection.
    NotCommitted(SinkError),
    /// COMMIT was sent, and its answer is missing.
    InDoubt(SinkError),
}

impl EpochWrite<'_> {
    /// Adds statements without rows of the epoch.
    pub(crate) fn add(&mut self, statements: impl IntoIterator<Item = BoundStatement>) {
        self.writes.extend(statements.into_iter().map(TargetWrite::Statement));
    }

    /// As fast as it can be. After [`CommitFailure::NotCommitted`] the transaction may still be open.
    pub(crate) async fn run(
        &self,
        connection: &mut Connection,
        ledger: &Ledger,
    ) -> Result<CommitOutcome, CommitFailure> {
        match self.write(connection).await.map_err(CommitFailure::NotCommitted)? {
            CommitOutcome::NotAbove => {
                roll_back(connection).await.map_err(CommitFailure::NotCommitted)?;
                Ok(CommitOutcome::NotAbove)
            }
            CommitOutcome::Committed => self.finish(connection, ledger).await,
        }
    }

    /// Everything but the COMMIT.
    async fn write(&self, connection: &mut Connection) -> Result<CommitOutcome, SinkError> {
        let (mut requests, mut copies) = (Vec::new(), Vec::new());
        for row_write in &self.writes {
            match row_write.requests() {
                Some(statements) => requests.push((row_write, statements)),
                None => copies.push(row_write),
            }
        }
        if !self.send(connection, &requests).await? {
            return Ok(CommitOutcome::NotAbove);
        }
        for row_write in copies {
            row_write.run(connection).await?;
        }
        self.truncate(connection).await?;
        Ok(CommitOutcome::Committed)
    }

    /// BEGIN and the small statements; `false` if the ledger refused the epoch.
    async fn send(
        &self,
        connection: &mut Connection,
        requests: &[(&TargetWrite<'_>, Vec<PendingStatement<'_>>)],
    ) -> Result<bool, SinkError> {
        let begin = |error| classify("beginning a transaction", error);
        let is_begun = connection.is_pooled();
        if is_begun {
            connection.begin(READ_COMMITTED, BY_INDEX).await.map_err(begin)?;
        }
        let all = || requests.iter().flat_map(|(_, requests)| requests);
        let texts = std::iter::once(self.ledger_row.sql.as_str()).chain(all().map(|r| &*r.sql));
        connection.prepare_all(texts).await.map_err(|(text, error)| {
            let request = all().find(|request| &*request.sql == text);
            classify_write(request.map_or(LEDGER, |request| request.table), error)
        })?;
        let ledger_row = prepare(connection, &self.ledger_row).await?;
        let mut prepared = Vec::new();
        for request in all() {
            let statement = connection.prepare(&request.sql).await;
            let statement = statement.map_err(|error| classify_write(request.table, error))?;
            prepared.push((statement, request));
        }
        let sending = &*connection;
        let client = &sending.client;
        // Requests go out in the order in which their futures are polled first, and `join!` and
        // `join_all` poll in order; the answers come in the same order.
        let rest = prepared.iter().map(|(statement, request)| request.run(sending, statement));
        let (begun, inserted, rest) = futures::join!(
            async {
                if is_begun {
                    Ok(())
                } else {
                    client.batch_execute(&format!("BEGIN {READ_COMMITTED}; {BY_INDEX}")).await
                }
            },
            execute(sending, &ledger_row, &self.ledger_row),
            join_all(rest),
        );
        begun.map_err(begin)?;
        match inserted {
            Ok(1) => {}
            Ok(_) => return Ok(false),
            // Two commits of one epoch at the same moment: the other one was faster.
            Err(error) if is_unique_violation(&error) => return Ok(false),
            Err(error) => return Err(classify_write(&self.ledger_row.table, error)),
        }
        let mut rest = rest.into_iter();
        for (row_write, requests) in requests {
            let counts: Result<Vec<u64>, SinkError> = rest.by_ref().take(requests.len()).collect();
            row_write.check_count(connection, counts?.iter().sum()).await?;
        }
        Ok(true)
    }

    pub(crate) async fn truncate(&self, connection: &mut Connection) -> Result<(), SinkError> {
        if self.truncates.is_empty() {
            return Ok(());
        }
        let lifted = connection.client.batch_execute(AS_A_WHOLE).await;
        lifted.map_err(|error| classify("truncating", error))?;
        for bound in &self.truncates {
            connection.deadline.suspend();
            let rows = bound.execute(connection).await?;
            tracing::info!(table = bound.table, rows, "landed deletes of a truncated table");
        }
        Ok(())
    }

    /// Commits, and asks the ledger whether that is so.
    pub(crate) async fn finish(
        &self,
        connection: &mut Connection,
        ledger: &Ledger,
    ) -> Result<CommitOutcome, CommitFailure> {
        let failed = |error| classify(&format!("committing epoch {}", self.epoch), error);
        let epoch = epoch_number(self.epoch).map_err(CommitFailure::NotCommitted)?;
        connection.deadline.record_activity();
        let (committer, of_epoch) = (ledger.committer_sql(), ledger.of_epoch(&epoch));
        connection.forget_statements();
        let client = &connection.client;
        let (committed, row) = futures::join!(
            client.batch_execute("COMMIT"),
            client.query_typed_opt(&committer, &of_epoch),
        );
        if let Err(error) = committed {
            // An answer other than that the server goes away is a rollback: a deferred constraint.
            let is_answered = error.as_db_error().is_some();
            return Err(match failed(error) {
                away @ SinkError::Unavailable { .. } => CommitFailure::InDoubt(away),
                error if is_answered => CommitFailure::NotCommitted(error),
                error => CommitFailure::InDoubt(error),
            });
        }
        let row = row.map_err(|error| CommitFailure::InDoubt(failed(error)))?;
        match ledger.is_run(row.as_ref()) {
            Ok(true) => Ok(CommitOutcome::Committed),
            Ok(false) => {
                Err(CommitFailure::NotCommitted(SinkError::RolledBack { epoch: self.epoch }))
            }
            Err(error) => Err(CommitFailure::InDoubt(failed(error))),
        }
    }
}

async fn prepare(
    connection: &mut Connection,
    bound: &BoundStatement,
) -> Result<Statement, SinkError> {
    connection.prepare(&bound.sql).await.map_err(|error| classify_write(&bound.table, error))
}

async fn execute(
    connection: &Connection,
    statement: &Statement,
    bound: &BoundStatement,
) -> Result<u64, Error> {
    let values = bound.values();
    let executed = connection.client.execute(statement, &values);
    connection.deadline.record_after(executed).await
}

/// Ends a transaction that is open, failed or not there.
pub(crate) async fn roll_back(connection: &mut Connection) -> Result<(), SinkError> {
    connection.roll_back().await.map_err(|error| classify("rolling back", error))
}
