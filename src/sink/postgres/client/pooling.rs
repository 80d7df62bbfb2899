//! Whether a connection pooler is in between that the configuration does not name.
//!
//! In transaction mode, what a session sets stays on the pooler's server connection, for whoever gets it next. So it is found
//! out before anything is set. Two signs: the server process is older than our connection, and the server knows our
//! prepared statement by a name that we did not give it (pgbouncer 1.21 and newer, odyssey, PgCat).

use std::time::Instant;

use tokio_postgres::{Client, Error};

/// The client library calls statements `s1`, `s2` and so on.
const LOOK: &str = "\
SELECT extract(epoch FROM clock_timestamp() - backend_start)::float8, \
       EXISTS (SELECT FROM pg_prepared_statements \
               WHERE statement LIKE '%tidemark looks for a pooler%' AND name !~ '^s[0-9]+$') \
FROM pg_stat_activity WHERE pid = pg_backend_pid() /* tidemark looks for a pooler */";

/// What is in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InBetween {
    /// Nothing that shows.
    Nothing,
    /// A pooler, in whatever mode.
    Pooler,
}

/// Looks at a connection that was begun at `begun`, in a transaction, so that nothing is left whatever is in between.
pub(crate) async fn look(client: &Client, begun: Instant) -> Result<InBetween, Error> {
    // Not worth a compiled plan, whatever the server's settings are.
    client.batch_execute("START TRANSACTION READ ONLY; SET LOCAL jit = off").await?;
    let statement = client.prepare(LOOK).await?;
    let row = client.query_one(&statement, &[]).await?;
    let (age, is_renamed): (f64, bool) = (row.try_get(0)?, row.try_get(1)?);
    let is_older = age >= begun.elapsed().as_secs_f64();
    // Both say to the server that the statement is no longer needed.
    drop((row, statement));
    client.batch_execute("ROLLBACK").await?;
    Ok(if is_older || is_renamed { InBetween::Pooler } else { InBetween::Nothing })
}
