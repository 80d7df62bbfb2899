//! One connection with its prepared statements, directly or through a pooler.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::error::classify;
use super::pooling::{self, InBetween};
use super::quote;
use super::response_deadline::ResponseDeadline;
use super::tls::{self, Tls};
use crate::sink::SinkError;
use crate::sink::postgres::config::{Pooler, PostgresConfig};

/// One session with its prepared statements. Dropping it closes the socket, and the server then
/// rolls back what was open.
///
/// Behind a pooler in transaction mode, settings and prepared statements live from BEGIN to COMMIT: what
/// follows may go to another server process, and what is left may meet another client. So outside of
/// transactions only `query_typed` and `execute_typed` are used, which need no name.
pub(crate) struct Connection {
    pub(crate) client: Client,
    statements: HashMap<String, Statement>,
    /// Each transaction begins with it; `None` if the session has the settings.
    settings: Option<String>,
    io: JoinHandle<()>,
    pub(crate) deadline: ResponseDeadline,
    /// The client library no longer knows which answer belongs to which request.
    pub(crate) is_out_of_step: bool,
}

impl Connection {
    /// Its answers break `deadline`.
    pub(crate) async fn open(
        config: &PostgresConfig,
        deadline: &ResponseDeadline,
    ) -> Result<Self, SinkError> {
        let client_config =
            config.client_config().map_err(|problems| SinkError::Config { problems })?;
        let tls = Tls::load(config).await?;
        let begun = Instant::now();
        let opening = async {
            let (client, io) = tls.connect(&client_config).await?;
            // The error also reaches whoever waits for an answer; here it would be a second report.
            let io = tokio::spawn(async move {
                if let Err(error) = io.await {
                    tracing::debug!(%error, "postgres connection ended");
                }
            });
            let mut connection = Self {
                client,
                statements: HashMap::new(),
                settings: None,
                io,
                deadline: deadline.clone(),
                is_out_of_step: false,
            };
            let pooler = match config.pooler {
                Pooler::Auto => expected(&connection.client, begun).await?,
                told => told,
            };
            match pooler {
                Pooler::Auto | Pooler::Session => {
                    connection.client.batch_execute(&settings(config, Scope::Session)).await?;
                }
                Pooler::Transaction => {
                    connection.settings = Some(settings(config, Scope::Transaction));
                }
            }
            Ok(connection)
        };
        // The client's own timeout ends with the TCP connection; a server that then says nothing
        // would hold us for ever.
        let opened = tokio::time::timeout(config.connect_timeout, opening).await;
        deadline.record_activity();
        match opened {
            Ok(opened) => opened.map_err(|error| {
                let of_tls = tls::explain(&error, config.effective_sslmode());
                of_tls.unwrap_or_else(|| classify("connecting", error))
            }),
            Err(elapsed) => Err(SinkError::Unavailable {
                doing: "connecting".to_owned(),
                source: elapsed.into(),
            }),
        }
    }

    /// The prepared form of `sql`; a round trip the first time.
    pub(crate) async fn prepare(&mut self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Prepares what is not yet prepared, in one round trip.
    ///
    /// # Errors
    /// The first failure, with the text that failed.
    pub(crate) async fn prepare_all<'s>(
        &mut self,
        texts: impl Iterator<Item = &'s str>,
    ) -> Result<(), (&'s str, tokio_postgres::Error)> {
        let missing: HashSet<&str> =
            texts.filter(|text| !self.statements.contains_key(*text)).collect();
        let client = &self.client;
        let prepared = missing.into_iter().map(async |text| (text, client.prepare(text).await));
        for (text, statement) in join_all(prepared).await {
            let statement = statement.map_err(|error| (text, error))?;
            self.statements.insert(text.to_owned(), statement);
        }
        self.deadline.record_activity();
        Ok(())
    }

    /// Whether everything of a transaction, also what prepares it, must come after its BEGIN.
    pub(crate) fn is_pooled(&self) -> bool {
        self.settings.is_some()
    }

    /// Begins a transaction with these characteristics, and runs further statements in the same round trip.
    pub(crate) async fn begin(
        &mut self,
        characteristics: &str,
        statements: &str,
    ) -> Result<(), tokio_postgres::Error> {
        self.forget_statements();
        let settings = self.settings.as_deref().unwrap_or_default();
        self.client.batch_execute(&format!("BEGIN {characteristics}; {settings}{statements}")).await
    }

    /// The same for work that takes as long as its tables are large: the time limit of statements is for epochs.
    pub(crate) async fn begin_long(
        &mut self,
        characteristics: &str,
    ) -> Result<(), tokio_postgres::Error> {
        self.forget_statements();
        let settings = self.settings.as_deref().unwrap_or_default();
        let begin = format!(
            "BEGIN {characteristics}; {settings}SET LOCAL statement_timeout = 0; \
             SELECT pg_backend_pid()"
        );
        for message in self.client.simple_query(&begin).await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            if let Some(process) = row.get(0).and_then(|text| text.parse().ok()) {
                self.deadline.watch_backend(process);
            }
        }
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<(), tokio_postgres::Error> {
        self.forget_statements();
        self.client.batch_execute("COMMIT").await
    }

    /// Ends a transaction that is open, failed or not there.
    pub(crate) async fn roll_back(&mut self) -> Result<(), tokio_postgres::Error> {
        self.forget_statements();
        self.client.batch_execute("ROLLBACK").await
    }

    /// Sets or leaves savepoints of an open transaction.
    pub(crate) async fn savepoint(&self, sql: &str) -> Result<(), SinkError> {
        let set = self.deadline.record_after(self.client.batch_execute(sql)).await;
        set.map_err(|error| classify("looking for rows that are refused", error))
    }

    /// To be called before the end of a transaction: the server process may be another client's after it.
    pub(crate) fn forget_statements(&mut self) {
        if self.is_pooled() {
            // Each of them says so to the server when it is dropped.
            self.statements.clear();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.io.abort();
    }
}

/// The mode that is safe with what is in between. A pooler in session mode could do with less, if the configuration says so.
async fn expected(client: &Client, begun: Instant) -> Result<Pooler, tokio_postgres::Error> {
    match pooling::look(client, begun).await? {
        InBetween::Nothing => Ok(Pooler::Session),
        InBetween::Pooler => {
            tracing::debug!("a pooler is in between: settings live from BEGIN to COMMIT");
            Ok(Pooler::Transaction)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Session,
    Transaction,
}

fn settings(config: &PostgresConfig, scope: Scope) -> String {
    // A commit that outlives its client must not keep its locks: the next one waits for them. A
    // server that answers before it has written to disk would break `commit`'s promise. A plan for
    // the arrays at hand could scan the whole table for them. Subqueries that few rows need, such as the look for an
    // older value, make plans seem dear enough to be compiled, which takes seconds where the rows take milliseconds.
    let (set, is_local, isolation) = match scope {
        Scope::Session => ("SET", false, "SET default_transaction_isolation = 'read committed'; "),
        Scope::Transaction => ("SET LOCAL", true, ""),
    };
    format!(
        "{set} statement_timeout = {statement}; {set} lock_timeout = {lock}; \
         {set} idle_in_transaction_session_timeout = {statement}; \
         {set} search_path = {schema}, public; {set} TimeZone = 'UTC'; {isolation}\
         {set} plan_cache_mode = force_generic_plan; {set} jit = off; \
         SELECT set_config('synchronous_commit', 'on', {is_local}) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local');",
        statement = config.statement_timeout.as_millis(),
        lock = config.lock_timeout.as_millis(),
        schema = quote::ident(&config.schema),
    )
}
