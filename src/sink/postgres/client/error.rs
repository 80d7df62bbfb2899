//! A Postgres error as the error of a sink; [`super::sqlstate`] decides. What the server says of a row's values goes into
//! the dead letter of that row, and never into a log or onto a page.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use super::sqlstate::{ErrorClass, meaning};
use crate::sink::{DataError, ServerDetail, SinkError};

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
    let code = db.code().code();
    let meaning = meaning(code);
    let advice = meaning.advice;
    let message = in_one_line(db.message(), code, [db.hint(), None, None]);
    // The library's own error would show all that the server said.
    let source = ServerSays(message.clone()).into();
    match meaning.fault {
        ErrorClass::Away => SinkError::Unavailable { doing, source },
        ErrorClass::Interrupted => SinkError::Interrupted {
            doing,
            reason: if advice.is_empty() { message } else { format!("{message}; {advice}") },
            attempts: meaning.attempts,
            source,
        },
        ErrorClass::Environment => {
            SinkError::Refused { doing, message, advice, source: Some(source) }
        }
        ErrorClass::Row => SinkError::Data(DataError {
            table: db.table().map(str::to_owned),
            column: db.column().map(str::to_owned).or_else(|| copy_column(db)),
            row: copy_row(db),
            message: without_values(db.message(), code),
            detail: Some(Box::new(ServerDetail { text: sentence(db), cause: Some(error.into()) })),
        }),
    }
}

/// What a server said, as far as it is fit for a log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ServerSays(String);

/// The message of a fault of a row without what it may quote of the row. That of a violated constraint names only
/// the constraint; others quote values, and those of triggers say anything.
pub(crate) fn without_values(message: &str, code: &str) -> String {
    let class = code.get(..2).unwrap_or_default();
    match class {
        "23" | "44" => format!("{message} ({code})"),
        "P0" => format!("an exception of a trigger or function ({code})"),
        _ => {
            let mut quoted = message.split('"');
            let mut text = quoted.next().unwrap_or_default().to_owned();
            while let Some(_value) = quoted.next() {
                text.push_str("\"...\"");
                text.push_str(quoted.next().unwrap_or_default());
            }
            format!("{text} ({code})")
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_for_logs_has_no_value_of_the_row() {
        let cases = [
            (
                "duplicate key value violates unique constraint \"people_email_key\"",
                "23505",
                "duplicate key value violates unique constraint \"people_email_key\" (23505)",
            ),
            (
                "invalid input syntax for type integer: \"a secret\"",
                "22P02",
                "invalid input syntax for type integer: \"...\" (22P02)",
            ),
            (
                "value \"99999999999\" is out of range for type integer",
                "22003",
                "value \"...\" is out of range for type integer (22003)",
            ),
            ("broken \"off", "22000", "broken \"...\" (22000)"),
            (
                "ada@example.com is blocked",
                "P0001",
                "an exception of a trigger or function (P0001)",
            ),
        ];
        for (message, code, expected) in cases {
            assert_eq!(without_values(message, code), expected);
        }
    }
}
