//! Calls that a silent server, or a proxy that forwards nothing, would hold for ever.

use std::future::Future;
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};

use super::connection::Connection;
use super::error::classify;
use super::response_deadline::ResponseDeadline;
use crate::sink::SinkError;
use crate::sink::postgres::config::PostgresConfig;

/// Not while the server waits for its client to take an answer: that answer does not come through.
const IS_AT_WORK: &str = "SELECT state = 'active' AND wait_event_type IS DISTINCT FROM 'Client' \
    FROM pg_stat_activity WHERE pid = $1";

/// Watches over the work of one connection.
pub(crate) struct Watchdog {
    config: PostgresConfig,
    deadline: ResponseDeadline,
}

impl Watchdog {
    pub(crate) fn new(config: &PostgresConfig, deadline: &ResponseDeadline) -> Self {
        Self { config: config.clone(), deadline: deadline.clone() }
    }

    /// Gives `work` up when no answer comes for too long, unless the server says by another connection that it is
    /// at it: only of transactions that [`Connection::begin_long`] has begun.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`].
    pub(crate) async fn over<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        let is_working = || async {
            match self.deadline.process() {
                Some(process) => Box::pin(is_at_work(&self.config, process)).await,
                None => false,
            }
        };
        self.deadline.enforce_unless(is_working, doing, work).await
    }
}

async fn is_at_work(config: &PostgresConfig, process: i32) -> bool {
    // Its answers break no silence but its own.
    let deadline = ResponseDeadline::new(config);
    let asked = async {
        let connection = Connection::open(config, &deadline).await?;
        let process: [(&(dyn ToSql + Sync), Type); 1] = [(&process, Type::INT4)];
        let row = connection.client.query_typed_opt(IS_AT_WORK, &process).await;
        let is_at_work = row.and_then(|row| row.map(|row| row.try_get(0)).transpose());
        is_at_work.map_err(|error| classify("asking what a server process does", error))
    };
    let patience: Duration = 2 * config.connect_timeout;
    let answered: Result<Result<Option<bool>, SinkError>, _> =
        tokio::time::timeout(patience, asked).await;
    match answered {
        Ok(Ok(is_at_work)) => is_at_work.unwrap_or(false),
        Ok(Err(SinkError::Unavailable { .. })) | Err(_) => false,
        // The server has answered: no rights, or so.
        Ok(Err(_)) => true,
    }
}
