use std::collections::HashMap;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Statement};

use super::config::PostgresConfig;
use super::fault::classify;
use super::quote;
use crate::sink::SinkError;

/// One session with its prepared statements. Dropping it closes the socket, and the server then
/// rolls back what was open.
pub(super) struct Connection {
    pub(super) client: Client,
    statements: HashMap<String, Statement>,
    io: JoinHandle<()>,
    /// The client library no longer knows which answer belongs to which request.
    pub(super) is_out_of_step: bool,
}

impl Connection {
    pub(super) async fn open(config: &PostgresConfig) -> Result<Self, SinkError> {
        let client_config =
            config.client_config().map_err(|problems| SinkError::Config { problems })?;
        let opening = async {
            let (client, io) = client_config.connect(NoTls).await?;
            // The error also reaches whoever waits for an answer; here it would be a second report.
            let io = tokio::spawn(async move {
                if let Err(error) = io.await {
                    tracing::debug!(%error, "postgres connection ended");
                }
            });
            let connection = Self { client, statements: HashMap::new(), io, is_out_of_step: false };
            connection.client.batch_execute(&settings(config)).await?;
            Ok(connection)
        };
        // The client's own timeout ends with the TCP connection; a server that then says nothing
        // would hold us for ever.
        match tokio::time::timeout(config.connect_timeout, opening).await {
            Ok(opened) => opened.map_err(|error| classify("connecting", error)),
            Err(elapsed) => Err(SinkError::Unavailable {
                doing: "connecting".to_owned(),
                source: elapsed.into(),
            }),
        }
    }

    /// The prepared form of `sql`; a round trip the first time.
    pub(super) async fn prepare(&mut self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.io.abort();
    }
}

fn settings(config: &PostgresConfig) -> String {
    // A commit that outlives its client must not keep its locks: the next one waits for them. A
    // server that answers before it has written to disk would break `commit`'s promise.
    format!(
        "SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = {statement}; \
         SET search_path = {schema}, public; SET TimeZone = 'UTC'; \
         SET default_transaction_isolation = 'read committed'; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local')",
        statement = config.statement_timeout.as_millis(),
        lock = config.lock_timeout.as_millis(),
        schema = quote::ident(&config.schema),
    )
}
