//! What a Postgres error means for the pipeline.
//!
//! Source: PostgreSQL documentation, appendix A "PostgreSQL Error Codes".

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::sink::{DataError, SinkError};

/// Turns an error into the decision it asks for. `doing` completes "while ...".
pub(super) fn classify(doing: &str, error: Error) -> SinkError {
    let doing = doing.to_owned();
    let Some(db) = error.as_db_error() else {
        if is_connection_lost(&error) {
            return SinkError::Unavailable { doing, source: error.into() };
        }
        return SinkError::Refused {
            doing,
            message: error.to_string(),
            advice: "nothing was sent; this is between us and the client library",
            source: Some(error.into()),
        };
    };
    let message = sentence(db);
    let code = db.code().code();
    match &code[..2] {
        _ if is_unavailable(db.code()) => SinkError::Unavailable { doing, source: error.into() },
        _ if is_interrupted(db.code()) => {
            SinkError::Interrupted { doing, reason: message, source: error.into() }
        }
        "22" | "23" => SinkError::Data(DataError {
            table: db.table().map(str::to_owned),
            column: db.column().map(str::to_owned).or_else(|| copy_column(db)),
            row: None,
            message,
            source: Some(error.into()),
        }),
        class => {
            let advice = advice(class);
            SinkError::Refused { doing, message, advice, source: Some(error.into()) }
        }
    }
}

/// The same for a statement that writes to `table`, which Postgres doesn't always name.
pub(super) fn classify_write(table: &str, error: Error) -> SinkError {
    match classify(&format!("writing to {table}"), error) {
        SinkError::Data(data) => {
            SinkError::Data(DataError { table: data.table.or(Some(table.to_owned())), ..data })
        }
        other => other,
    }
}

/// The connection is gone, or never was: nothing that the server said about a statement.
pub(super) fn is_connection_lost(error: &Error) -> bool {
    if error.is_closed() {
        return true;
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// The server went away, is coming up, or is a standby after a failover.
fn is_unavailable(code: &SqlState) -> bool {
    let code = code.code();
    // 25P03: we were idle in a transaction for too long, and the server closed the connection.
    code.starts_with("08")
        || (code.starts_with("57P") && code != "57P04")
        || matches!(code, "25P03" | "25006")
}

/// The server works, and this transaction did not: conflicts, timeouts, resources.
fn is_interrupted(code: &SqlState) -> bool {
    let code = code.code();
    let class = &code[..2];
    matches!(class, "40" | "53" | "58") || matches!(code, "55P03" | "57014")
}

fn advice(class: &str) -> &'static str {
    match class {
        "28" => "check user and password of the sink and the server's pg_hba.conf",
        "3D" | "57" => "check the database's name, or create it",
        "3F" => "create the schema, or correct the name",
        "42" => "create what is missing in a file of sql/ods, or grant the role its rights",
        _ => "nothing was written; look at the server's log",
    }
}

/// Message, detail and place in one line.
fn sentence(db: &DbError) -> String {
    let mut text = format!("{} ({})", db.message(), db.code().code());
    for more in [db.detail(), db.hint(), db.where_()].into_iter().flatten() {
        text.push_str(", ");
        text.push_str(more.lines().next().unwrap_or_default());
    }
    text
}

/// The column in a context such as `COPY orders, line 3, column total_amount: "x"`.
fn copy_column(db: &DbError) -> Option<String> {
    let context = db.where_()?.strip_prefix("COPY ")?;
    let (_, column) = context.lines().next()?.rsplit_once(", column ")?;
    Some(column.split(':').next().unwrap_or(column).to_owned())
}
