//! A Postgres error as the error of a sink; [`super::sqlstate`] decides.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use super::sqlstate::{ErrorClass, meaning};
use crate::sink::{DataError, SinkError};

/// Turns an error into the decision it asks for. `doing` completes "while ...".
pub(crate) fn classify(doing: &str, error: Error) -> SinkError {
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
    let meaning = meaning(db.code().code());
    let advice = meaning.advice;
    match meaning.fault {
        ErrorClass::Away => SinkError::Unavailable { doing, source: error.into() },
        ErrorClass::Interrupted => SinkError::Interrupted {
            doing,
            reason: if advice.is_empty() { message } else { format!("{message}; {advice}") },
            attempts: meaning.attempts,
            source: error.into(),
        },
        ErrorClass::Environment => {
            SinkError::Refused { doing, message, advice, source: Some(error.into()) }
        }
        ErrorClass::Row => SinkError::Data(DataError {
            table: db.table().map(str::to_owned),
            column: db.column().map(str::to_owned).or_else(|| copy_column(db)),
            row: copy_row(db),
            message,
            source: Some(error.into()),
        }),
    }
}

/// The same for a statement that writes to `table`, which Postgres doesn't always name.
pub(crate) fn classify_write(table: &str, error: Error) -> SinkError {
    match classify(&format!("writing to {table}"), error) {
        SinkError::Data(data) => {
            SinkError::Data(DataError { table: data.table.or(Some(table.to_owned())), ..data })
        }
        other => other,
    }
}

pub(crate) fn is_unique_violation(error: &Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
}

/// The connection is gone, or never was: nothing that the server said about a statement.
pub(crate) fn is_connection_lost(error: &Error) -> bool {
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

/// Message, detail and place in one line.
fn sentence(db: &DbError) -> String {
    in_one_line(db.message(), db.code().code(), [db.detail(), db.hint(), db.where_()])
}

/// Message and code, and what there is of detail, hint and context.
pub(crate) fn in_one_line(message: &str, code: &str, more: [Option<&str>; 3]) -> String {
    let mut text = format!("{message} ({code})");
    // The whole row has no place in a log; a dead letter has it anyway.
    let is_told = |more: &&str| !more.starts_with("Failing row contains") && !more.is_empty();
    for more in more.into_iter().flatten().filter(is_told) {
        text.push_str(", ");
        text.push_str(more.lines().next().unwrap_or_default());
    }
    text
}

/// The column in a context such as `COPY orders, line 3, column total_amount: "x"`.
fn copy_column(db: &DbError) -> Option<String> {
    let (_, column) = copy_place(db)?.rsplit_once(", column ")?;
    Some(column.split(':').next().unwrap_or(column).to_owned())
}

/// The row in such a context, counted from 0.
fn copy_row(db: &DbError) -> Option<usize> {
    let (_, line) = copy_place(db)?.split_once(", line ")?;
    let digits = line.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse::<usize>().ok()?.checked_sub(1)
}

fn copy_place(db: &DbError) -> Option<&str> {
    db.where_()?.lines().find_map(|line| line.strip_prefix("COPY "))
}
