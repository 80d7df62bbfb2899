//! The flow stops because too many events can't be decoded, and what is likely to be wrong.

use std::fmt::{self, Display, Formatter};

use crate::model::SourceTable;
use crate::resilience::Flood;

/// Why the flow stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeFlood {
    pub(super) flood: Flood,
    pub(super) cause: Cause,
}

/// What is likely to be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// The format, or what says which table an event is of.
    Format,
    /// The declaration of the table, by its name in SQL.
    Declaration { table: String },
    /// The option `source` of a declared table that has no events.
    Source { table: String, source: SourceTable },
    /// All of them.
    Sources { declared: Vec<SourceTable> },
}

/// What to do about tables that belong to others.
const ELSEWHERE: &str = "choose what happens to tables that are not declared (decode.unknown_tables = 'ignore' or 'register')";

impl Display for DecodeFlood {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { flood: Flood { table, refused, of, first }, cause } = self;
        match cause {
            Cause::Format => write!(
                f,
                "{refused} of {of} events can't be read, which is more than a few bad events: check that this is the \
                 right queue, that they are Debezium events, and that they name their table (decode.topic)."
            )?,
            Cause::Declaration { table: name } => write!(
                f,
                "{refused} of {of} events of {table} can't be decoded, which is more than a few bad events: check that \
                 sql/tables/{name}.sql declares it as its source writes it."
            )?,
            Cause::Source { table: name, source } => write!(
                f,
                "{refused} events of {table} have come, which no file declares, and none of {source}: if these are the \
                 same table, write source = '{table}' in sql/tables/{name}.sql; if not, {ELSEWHERE}."
            )?,
            Cause::Sources { declared } => {
                let declared: Vec<String> = declared.iter().map(SourceTable::to_string).collect();
                write!(
                    f,
                    "{refused} of {of} events are of {table} and others that no file declares, and none is of a declared table \
                     ({}): check that this is the right queue and that the option source is right in sql/tables; if \
                     both are, {ELSEWHERE}.",
                    declared.join(", ")
                )?;
            }
        }
        write!(
            f,
            " Nothing is diverted or acknowledged. Processing goes on when the SQL files are corrected, or after a start \
             with another configuration; sink.postgres.max_refused_percent = 100 makes dead letters of all of them. The \
             first one: {first}"
        )
    }
}
