//! What a session is given.

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::pipeline::postgres_access::PostgresAccess;
use crate::pipeline::sql_folder::Sql;
use crate::telemetry::Health;

/// What there is before the SQL is known.
#[derive(Clone, Copy)]
pub(crate) struct StartInputs<'a> {
    pub(crate) config: &'a Config,
    pub(crate) access: &'a PostgresAccess,
    pub(crate) health: &'a Health,
    pub(crate) shutdown: &'a CancellationToken,
}

/// The same from the start of a session to its end.
#[derive(Clone, Copy)]
pub(crate) struct SessionInputs<'a> {
    pub(crate) config: &'a Config,
    pub(crate) access: &'a PostgresAccess,
    pub(crate) sql: &'a Sql,
    pub(crate) health: &'a Health,
    pub(crate) shutdown: &'a CancellationToken,
}
