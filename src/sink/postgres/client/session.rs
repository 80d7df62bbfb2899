//! A connection that is opened when it is needed, and the time limits of what is done with it.

use std::sync::Arc;

use super::connection::Connection;
use super::response_deadline::ResponseDeadline;
use super::watchdog::Watchdog;
use crate::sink::SinkError;
use crate::sink::postgres::config::PostgresConfig;

/// Opens connections to one database, which share a deadline.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) config: Arc<PostgresConfig>,
    pub(crate) deadline: ResponseDeadline,
}

impl Connector {
    pub(crate) async fn open(&self) -> Result<Connection, SinkError> {
        Connection::open(&self.config, &self.deadline).await
    }
}

/// The work of one sink value, one call after the other.
pub(crate) struct DatabaseSession {
    connector: Connector,
    /// `None` before the first call, after an error, and while a call has it.
    connection: Option<Connection>,
}

impl DatabaseSession {
    /// Does not connect yet.
    ///
    /// # Errors
    /// [`SinkError::Config`] with everything that is wrong.
    pub(crate) fn new(config: PostgresConfig) -> Result<Self, SinkError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(SinkError::Config { problems });
        }
        Ok(Self::unchecked(config))
    }

    /// For a configuration that was checked.
    pub(crate) fn unchecked(config: PostgresConfig) -> Self {
        let deadline = ResponseDeadline::new(&config);
        let connector = Connector { config: Arc::new(config), deadline };
        Self { connector, connection: None }
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(crate) fn config(&self) -> &PostgresConfig {
        &self.connector.config
    }

    pub(crate) fn schema(&self) -> &str {
        &self.connector.config.schema
    }

    /// Works with the connection, which is kept unless the work fails. A server that says nothing for too long fails it.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`], and those of the work.
    pub(crate) async fn with_connection<T>(
        &mut self,
        doing: &str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let Connector { config, deadline } = &self.connector;
        let watchdog = Watchdog::new(config, deadline);
        // Boxed: each layer of futures would hold it once more.
        let done = Box::pin(async {
            let mut connection = self.take().await?;
            let done = work(&mut connection).await?;
            self.connection = Some(connection);
            Ok(done)
        });
        watchdog.over(doing, done).await
    }

    /// The connection, to be put back by whoever succeeds with it.
    pub(crate) async fn take(&mut self) -> Result<Connection, SinkError> {
        match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => Ok(connection),
            None => self.connector.open().await,
        }
    }

    pub(crate) fn put_back(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }
}
