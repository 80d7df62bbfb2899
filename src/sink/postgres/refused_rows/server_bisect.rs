//! Rows that a target refuses, found by the server: they go into a temporary table, and a block of PL/pgSQL writes
//! them to their target in groups, each in a savepoint, halving those that fail. That takes a few round trips where
//! [`super::bisect`] takes ten for each refused row, and is for every kind of refusal: the server's own verdict.
//!
//! Of a group that fails the first half is tried. If that fits, the second half has the refused row and needs no attempt of
//! its own; if not, nothing is known of the second half, and the next group begins in it (generalised binary splitting,
//! Hwang 1972).
//!
//! It needs the right to create temporary tables, which everybody has unless somebody took it away, and the language.

use std::fmt::{self, Write as _};
use std::ops::Range;

use tokio_postgres::{Error, Row};

use super::refusal::RowRefusal;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::{
    ServerSays, classify_write, in_one_line, without_values,
};
use crate::sink::postgres::client::quote;
use crate::sink::postgres::client::sqlstate::row_pattern;
use crate::sink::postgres::target::row_write::{RowWrite, SWALLOWED};
use crate::sink::postgres::target::table::TargetTable;
use crate::sink::{DataError, PreflightLevel, ServerDetail, SinkError};

/// With fewer rows than this, tables of their own cost more than the round trips that they save.
pub(crate) const WORTH_TABLES: usize = 128;
/// The rows of a block: one statement for the time limit of statements.
const BLOCK_ROWS: usize = 4096;
/// An attempt costs about as much as so many rows. With `p` of the rows refused, groups of `sqrt(ATTEMPT_ROWS / p)` cost
/// least: larger ones write more in vain, smaller ones are more attempts.
const ATTEMPT_ROWS: f64 = 1.5;
/// Before anything is known, it counts as if one of so many rows had been refused.
const PRIOR_ROWS: usize = 100;

/// How the context of an error begins that the blocks raise themselves.
const OWN_BLOCK: &str = "PL/pgSQL function inline_code_block";
const STAGED: &str = "pg_temp.tidemark_staged";
const REFUSED: &str = "pg_temp.tidemark_refused";

/// Writes the rows that are not refused, inside an open transaction that stays usable. What is refused has failed alone
/// after all others: what it needed may have come after it. To be called after [`RowWrite::check_columns`].
///
/// `None`: the server can't look for them in this way, and nothing is written.
///
/// # Errors
/// What is not about a row.
pub(crate) async fn write(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    range: Range<usize>,
) -> Result<Option<Vec<RowRefusal>>, SinkError> {
    match write_staged(connection, row_write, range).await {
        Ok(refusals) => {
            let drop = format!("DROP TABLE {STAGED}, {REFUSED}; RELEASE staged");
            connection.savepoint(&drop).await?;
            Ok(Some(refusals))
        }
        Err(error) if is_no_way(&error) => {
            let table = row_write.rows.table();
            tracing::debug!(table, %error, "refused rows can't be looked for by the server itself");
            connection.savepoint("ROLLBACK TO staged; RELEASE staged").await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A right that is missing, a value that the temporary table doesn't take either: there is the slow way.
fn is_no_way(error: &SinkError) -> bool {
    match error {
        SinkError::Data(_) => true,
        SinkError::Refused { source: Some(source), .. } => source.is::<ServerSays>(),
        _ => false,
    }
}

async fn write_staged(
    connection: &mut Connection,
    row_write: &RowWrite<'_>,
    range: Range<usize>,
) -> Result<Vec<RowRefusal>, SinkError> {
    let failed = |error| classify_write(row_write.rows.table(), error);
    let target = row_write.rows.target();
    run(connection, &tables(target)).await.map_err(failed)?;
    let columns: Vec<String> = (1..=target.columns.len()).map(|at| format!("c{at}")).collect();
    let copy = format!("COPY {STAGED} ({}) FROM STDIN (FORMAT binary)", columns.join(", "));
    row_write.rows.stream_by(connection, &copy, range.clone()).await?;
    let write = row_write.sql_from(&rows_from(target));
    let write = &CheckedWrite::of(row_write, write.trim_end());
    for start in (0..range.len()).step_by(BLOCK_ROWS) {
        let end = range.len().min(start + BLOCK_ROWS);
        run(connection, &search(write, start..end)).await.map_err(failed)?;
    }
    run(connection, &alone(write, target)).await.map_err(failed)?;
    let told = connection.client.query_typed(&told_sql(), &[]).await;
    connection.deadline.record_activity();
    let told = told.map_err(failed)?;
    let refusals = told.iter().map(|row| refusal(row_write, row, &write.statement, range.start));
    refusals.collect::<Result<_, _>>().map_err(failed)
}

async fn run(connection: &Connection, sql: &str) -> Result<(), Error> {
    connection.deadline.record_after(connection.client.batch_execute(sql)).await
}

/// The rows in the types in which they are sent, and what is said of those that are refused.
fn tables(target: &TargetTable) -> String {
    let mut columns = String::new();
    for (at, column) in (1..).zip(&target.columns) {
        // Writing to a String can't fail.
        let _ = write!(columns, ", c{at} {}", column.wire.sql());
    }
    format!(
        "SAVEPOINT staged; \
         CREATE TEMPORARY TABLE tidemark_staged (n integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY{columns}) \
         ON COMMIT DROP; \
         CREATE TEMPORARY TABLE tidemark_refused (n integer PRIMARY KEY, code text, message text, detail text, hint text, \
         context text, table_name text, column_name text) ON COMMIT DROP"
    )
}

/// The statement, and what is done if it has not written all of its rows.
struct CheckedWrite {
    statement: String,
    check: String,
}

impl CheckedWrite {
    fn of(row_write: &RowWrite<'_>, statement: &str) -> Self {
        let target = row_write.rows.target();
        let text = format!("the table says that % of % rows were written: {SWALLOWED}");
        let text = quote::literal(&text);
        let raise = format!(
            "RAISE EXCEPTION {text}, written, end_row - first_row USING ERRCODE = 'P0001';"
        );
        let check = match row_write.find_sql_from(&rows_from(target)) {
            Some(find) => format!(
                "IF written <> end_row - first_row THEN PERFORM FROM ({find}) AS left_over; \
                 IF FOUND THEN {raise} END IF; END IF;"
            ),
            None if row_write.counts_all() => {
                format!("IF written <> end_row - first_row THEN {raise} END IF;")
            }
            None => String::new(),
        };
        Self { statement: statement.to_owned(), check }
    }
}

impl fmt::Display for CheckedWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; GET DIAGNOSTICS written = ROW_COUNT; {}", self.statement, self.check)
    }
}

/// As a statement takes them; the bounds are variables of the blocks.
fn rows_from(target: &TargetTable) -> String {
    let columns = (1..).zip(&target.columns).map(|(at, column)| match &column.cast {
        Some(name) => format!("c{at}::{name}"),
        None => format!("c{at}"),
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    format!("(SELECT {columns} FROM {STAGED} WHERE n >= first_row AND n < end_row ORDER BY n)")
}

/// Writes a range of rows but those that are refused, and notes the numbers of these.
fn search(write: &CheckedWrite, range: Range<usize>) -> String {
    // Postgres counts from 1.
    let (start, end) = (range.start + 1, range.end + 1);
    let row_faults = quote::literal(&row_pattern());
    let body = format!(
        "
#variable_conflict use_column
DECLARE
  first_row integer := {start};
  end_row integer;
  end_of_suspects integer;
  refused integer := 0;
  written bigint;
BEGIN
  WHILE first_row < {end} LOOP
    end_row := first_row + sqrt({ATTEMPT_ROWS} * (first_row - {start} + {PRIOR_ROWS}) / (refused + 1))::integer;
    end_row := least(greatest(end_row, first_row + 1), {end});
    end_of_suspects := NULL;
    LOOP
      BEGIN
        {write}
        first_row := end_row;
      EXCEPTION WHEN OTHERS THEN
        IF SQLSTATE !~ {row_faults} THEN
          RAISE;
        END IF;
        end_of_suspects := end_row;
      END;
      EXIT WHEN end_of_suspects IS NULL;
      IF end_of_suspects - first_row = 1 THEN
        INSERT INTO {REFUSED} (n) VALUES (first_row);
        refused := refused + 1;
        first_row := end_of_suspects;
        EXIT;
      END IF;
      end_row := first_row + (end_of_suspects - first_row) / 2;
    END LOOP;
  END LOOP;
END"
    );
    format!("DO LANGUAGE plpgsql {}", quote::literal(&body))
}

/// Tries each of the noted rows alone, and notes what is said of those that fail.
fn alone(write: &CheckedWrite, target: &TargetTable) -> String {
    let find_column = find_column(target);
    let row_faults = quote::literal(&row_pattern());
    let body = format!(
        "
#variable_conflict use_column
DECLARE
  first_row integer;
  end_row integer;
  told_code text;
  told_message text;
  told_detail text;
  told_hint text;
  told_context text;
  told_table text;
  told_column text;
  written bigint;
BEGIN
  FOR first_row IN SELECT n FROM {REFUSED} ORDER BY n LOOP
    end_row := first_row + 1;
    BEGIN
      {write}
      DELETE FROM {REFUSED} WHERE n = first_row;
    EXCEPTION WHEN OTHERS THEN
      IF SQLSTATE !~ {row_faults} THEN
        RAISE;
      END IF;
      GET STACKED DIAGNOSTICS told_code = RETURNED_SQLSTATE, told_message = MESSAGE_TEXT,
        told_detail = PG_EXCEPTION_DETAIL, told_hint = PG_EXCEPTION_HINT, told_context = PG_EXCEPTION_CONTEXT,
        told_table = TABLE_NAME, told_column = COLUMN_NAME;
      {find_column}
      UPDATE {REFUSED} SET code = told_code, message = told_message, detail = told_detail, hint = told_hint,
        context = told_context, table_name = told_table, column_name = told_column
      WHERE n = first_row;
    END;
  END LOOP;
END"
    );
    format!("DO LANGUAGE plpgsql {}", quote::literal(&body))
}

/// An INSERT does not say which column it is whose type refuses a value: the first whose cast fails alike.
fn find_column(target: &TargetTable) -> String {
    let mut block = String::new();
    for (at, column) in (1..).zip(&target.columns) {
        let Some(type_name) = &column.refusing_type else { continue };
        let name = quote::literal(&column.name);
        // Writing to a String can't fail.
        let _ = write!(
            block,
            "
      IF told_column = '' THEN
        BEGIN
          PERFORM c{at}::{type_name} FROM {STAGED} WHERE n = first_row;
        EXCEPTION WHEN OTHERS THEN
          IF SQLSTATE = told_code THEN
            told_column := {name};
          END IF;
        END;
      END IF;"
        );
    }
    block
}

fn told_sql() -> String {
    format!(
        "SELECT n, code, message, detail, hint, context, table_name, column_name FROM {REFUSED} ORDER BY n"
    )
}

/// What the server said of a row; `start` is the first row in the temporary table.
fn refusal(
    row_write: &RowWrite<'_>,
    told: &Row,
    write: &str,
    start: usize,
) -> Result<RowRefusal, Error> {
    let number: i32 = told.try_get("n")?;
    let row = start + usize::try_from(number - 1).unwrap_or_default();
    let text = |name| Ok(told.try_get::<_, Option<String>>(name)?.filter(|text| !text.is_empty()));
    let (code, message) = (text("code")?, text("message")?);
    // What our own block says needs no place in it.
    let context = text("context")?.filter(|context| !context.starts_with(OWN_BLOCK));
    // What comes after it is said of every row.
    let context = context.map(|context| {
        let (of_row, _) = context.split_once(&in_context(write)).unwrap_or((&context, ""));
        of_row.to_owned()
    });
    let (detail, hint) = (text("detail")?, text("hint")?);
    let more = [detail.as_deref(), hint.as_deref(), context.as_deref()];
    let (message, code) = (message.unwrap_or_default(), code.unwrap_or_default());
    let error = DataError {
        table: text("table_name")?.or_else(|| Some(row_write.rows.table().to_owned())),
        column: text("column_name")?,
        row: Some(row),
        message: without_values(&message, &code),
        detail: Some(Box::new(ServerDetail {
            text: in_one_line(&message, &code, more),
            cause: None,
        })),
    };
    Ok(RowRefusal { row, error, found_by: PreflightLevel::Trial })
}

/// How the context of an error tells our statement.
fn in_context(write: &str) -> String {
    format!("SQL statement \"{write}\"")
}
