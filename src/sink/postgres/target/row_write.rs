//! The parts of an epoch's transaction, in their order.

use std::ops::Range;
use std::sync::Arc;

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::rows::{BoundStatement, EncodedRows};
use crate::model::{Changelog, ResultChanges};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify_write;
use crate::sink::{DataError, SinkError};

/// One part.
pub(crate) enum TargetWrite<'a> {
    /// A statement for a table of the sink's own, or without rows of the epoch.
    Statement(BoundStatement),
    /// A row of a table of the sink's own that is too large for a statement.
    Large(LargeRow<'a>),
    Rows(RowWrite<'a>),
}

/// A row that is added by COPY, which sends it in pieces.
pub(crate) struct LargeRow<'a> {
    pub(crate) rows: EncodedRows<'a>,
    /// Finds a row if it is there already: COPY has no ON CONFLICT.
    pub(crate) find: BoundStatement,
}

impl LargeRow<'_> {
    /// Adds it, unless it is there.
    async fn add(&self, connection: &mut Connection) -> Result<(), SinkError> {
        if self.find.execute(connection).await? == 0 {
            self.rows.copy(connection, 0..self.rows.count()).await?;
        }
        Ok(())
    }
}

/// Rows for one target.
pub(crate) struct RowWrite<'a> {
    pub(crate) rows: EncodedRows<'a>,
    pub(crate) method: WriteMethod,
    pub(crate) origin: RowOrigin<'a>,
}

#[derive(Debug, Clone)]
pub(crate) enum WriteMethod {
    /// Added to the table, by COPY if they are many.
    Append,
    /// By a statement whose parameters are the columns as arrays, and that adds or changes each row.
    Upsert(String),
    /// The same, and rows may stay as they are.
    Mend(MendSql),
    /// The same, and it must find all of the rows.
    Update(String),
    Delete(CheckedSql),
    /// Current rows. A newer one may be there already.
    Newest(CheckedSql),
}

/// How rows are made to be as they should.
#[derive(Debug, Clone)]
pub(crate) struct MendSql {
    pub(crate) mend: String,
    /// Writes each row, also one that is as it should be; `None` where a row has nothing but its key.
    pub(crate) upsert: Option<String>,
}

/// How rows are written if some may need nothing.
#[derive(Debug, Clone)]
pub(crate) struct CheckedSql {
    pub(crate) write: String,
    /// Finds a row if one is not as it should be after that.
    pub(crate) find: String,
}

/// What the rows are.
#[derive(Clone, Copy)]
pub(crate) enum RowOrigin<'a> {
    Landing(&'a Changelog),
    Upserts(&'a ResultChanges),
    Deletes(&'a ResultChanges),
}

/// A statement whose values are put together when it goes out.
pub(crate) struct PendingStatement<'a> {
    pub(crate) table: &'a str,
    pub(crate) sql: Arc<str>,
    what: PendingValues<'a>,
}

enum PendingValues<'a> {
    Statement(&'a BoundStatement),
    Rows(&'a EncodedRows<'a>, Range<usize>),
}

impl PendingStatement<'_> {
    /// Puts the values together, sends them, and tells how many rows were written. The server can be at the
    /// statements before it meanwhile.
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        statement: &Statement,
    ) -> Result<u64, SinkError> {
        let client = &connection.client;
        let ran = match &self.what {
            PendingValues::Statement(bound) => client.execute(statement, &bound.values()).await,
            PendingValues::Rows(rows, range) => {
                let bound = rows.bind_range(&self.sql, range.clone())?;
                // Given away, so that large values are gone as soon as they are encoded.
                client.execute_raw(statement, bound.params).await
            }
        };
        connection.deadline.record_activity();
        ran.map_err(|error| classify_write(self.table, error))
    }
}

impl TargetWrite<'_> {
    /// As statements that may go out together; `None`: by COPY.
    pub(crate) fn requests(&self) -> Option<Vec<PendingStatement<'_>>> {
        match self {
            Self::Large(_) => None,
            Self::Rows(row_write) => row_write.requests(),
            Self::Statement(bound) => Some(vec![PendingStatement {
                table: &bound.table,
                sql: bound.sql.as_str().into(),
                what: PendingValues::Statement(bound),
            }]),
        }
    }

    /// Compares how many rows were written with how many were sent.
    ///
    /// # Errors
    /// [`SinkError::Data`] if the target has taken rows away or sent them elsewhere, or rows to be updated were not there.
    pub(crate) async fn check_count(
        &self,
        connection: &mut Connection,
        count: u64,
    ) -> Result<(), SinkError> {
        match self {
            Self::Rows(row_write) => {
                row_write.check_count(connection, 0..row_write.rows.count(), count).await
            }
            Self::Statement(_) | Self::Large(_) => Ok(()),
        }
    }

    /// Writes it by itself, without saying which row is refused.
    pub(crate) async fn run(&self, connection: &mut Connection) -> Result<(), SinkError> {
        match self {
            Self::Statement(bound) => bound.execute(connection).await.map(|_| ()),
            Self::Large(row) => row.add(connection).await,
            Self::Rows(RowWrite { rows, .. }) => {
                let count = rows.copy(connection, 0..rows.count()).await?;
                self.check_count(connection, count).await
            }
        }
    }
}

impl RowWrite<'_> {
    /// As statements that may go out together; `None`: by [`EncodedRows::copy`].
    fn requests(&self) -> Option<Vec<PendingStatement<'_>>> {
        let sql: Arc<str> = match &self.method {
            WriteMethod::Append if self.rows.is_for_copy() => return None,
            _ => self.sql().into(),
        };
        let request = |range| {
            let what = PendingValues::Rows(&self.rows, range);
            PendingStatement { table: self.rows.table(), sql: Arc::clone(&sql), what }
        };
        Some(self.rows.ranges().into_iter().map(request).collect())
    }

    /// The statement whose parameters are the columns as arrays.
    fn sql(&self) -> String {
        match &self.method {
            WriteMethod::Append => self.rows.insert_sql(),
            WriteMethod::Upsert(sql) | WriteMethod::Update(sql) => sql.clone(),
            WriteMethod::Mend(sql) => sql.mend.clone(),
            WriteMethod::Delete(sql) | WriteMethod::Newest(sql) => sql.write.clone(),
        }
    }

    /// Whether each row that is sent counts as written; of keys to be deleted some may be gone already.
    pub(crate) fn counts_all(&self) -> bool {
        match self.method {
            WriteMethod::Append | WriteMethod::Upsert(_) | WriteMethod::Update(_) => true,
            WriteMethod::Mend(_) | WriteMethod::Delete(_) | WriteMethod::Newest(_) => false,
        }
    }

    /// As [`TargetWrite::check_count`], of some of the rows.
    async fn check_count(
        &self,
        connection: &mut Connection,
        range: Range<usize>,
        count: u64,
    ) -> Result<(), SinkError> {
        let sent = range.len() as u64;
        if count == sent {
            return Ok(());
        }
        let message = match &self.method {
            WriteMethod::Mend(MendSql { upsert: None, .. }) => return Ok(()),
            // The rows are as they should be, or they were taken away.
            WriteMethod::Mend(MendSql { upsert: Some(upsert), .. }) => {
                let mut written = 0;
                connection.savepoint("SAVEPOINT look").await?;
                for bound in self.rows.bind_within(upsert, range)? {
                    written += bound.execute(connection).await?;
                }
                // What is as it should be is not written again.
                connection.savepoint("ROLLBACK TO look; RELEASE look").await?;
                if written == sent {
                    return Ok(());
                }
                swallowed(written, sent)
            }
            WriteMethod::Update(_) => {
                format!("{count} of {sent} rows are there that were written before")
            }
            WriteMethod::Append | WriteMethod::Upsert(_) => swallowed(count, sent),
            WriteMethod::Delete(sql) | WriteMethod::Newest(sql) => {
                let mut left = false;
                for bound in self.rows.bind_within(&sql.find, range)? {
                    left |= bound.execute(connection).await? > 0;
                }
                if !left {
                    return Ok(());
                }
                swallowed(count, sent)
            }
        };
        let table = Some(self.rows.table().to_owned());
        Err(SinkError::Data(DataError { table, column: None, row: None, message, detail: None }))
    }

    /// Whether an error names the row that it is about.
    pub(crate) fn tells_rows(&self) -> bool {
        matches!(self.method, WriteMethod::Append) && self.rows.can_copy()
    }

    /// To be called once in a transaction, and outside of savepoints, before [`Self::write`].
    pub(crate) async fn check_columns(&self, connection: &mut Connection) -> Result<(), SinkError> {
        if self.tells_rows() { self.rows.check_columns(connection).await } else { Ok(()) }
    }

    /// Some of the rows, in the way that tells most about a row that is refused. How many have changed.
    pub(crate) async fn write(
        &self,
        connection: &mut Connection,
        range: Range<usize>,
    ) -> Result<u64, SinkError> {
        let count = match &self.method {
            WriteMethod::Append if self.rows.can_copy() => {
                self.rows.stream(connection, range.clone()).await?
            }
            _ => self.bind(range.clone())?.execute(connection).await?,
        };
        self.check_count(connection, range, count).await?;
        Ok(count)
    }

    /// Whether rows may be deleted and written again where they keep each other out.
    pub(crate) fn can_replace(&self) -> bool {
        matches!(self.method, WriteMethod::Upsert(_)) && self.rows.target().old_rows_sql.is_some()
    }

    /// Deletes what the target holds under the key of a row.
    pub(crate) async fn delete_old(
        &self,
        connection: &mut Connection,
        row: usize,
    ) -> Result<(), SinkError> {
        if let Some(sql) = &self.rows.target().old_rows_sql {
            self.rows.bind_range(sql, row..row + 1)?.execute(connection).await?;
        }
        Ok(())
    }

    /// The statement that writes some of the rows.
    fn bind(&self, range: Range<usize>) -> Result<BoundStatement, SinkError> {
        self.rows.bind_range(&self.sql(), range)
    }

    /// The statement that writes rows from another place than arrays.
    pub(crate) fn sql_from(&self, place: &str) -> String {
        self.sql().replacen(&self.rows.target().given(), place, 1)
    }

    /// The same of the statement that finds a row that is not as it should be; `None` if there is none.
    pub(crate) fn find_sql_from(&self, place: &str) -> Option<String> {
        match &self.method {
            WriteMethod::Delete(sql) | WriteMethod::Newest(sql) => {
                Some(sql.find.replacen(&self.rows.target().given(), place, 1))
            }
            WriteMethod::Append
            | WriteMethod::Upsert(_)
            | WriteMethod::Mend(_)
            | WriteMethod::Update(_) => None,
        }
    }

    /// Those of the rows that are `kept`.
    pub(crate) fn filter(&self, kept: &[bool]) -> Result<RowWrite<'_>, SinkError> {
        let rows = self.rows.filter(&kept.to_vec().into())?;
        Ok(RowWrite { rows, method: self.method.clone(), origin: self.origin })
    }
}

/// What is said of a target that counts fewer rows, or more, than it was sent.
pub(crate) fn swallowed(count: u64, sent: u64) -> String {
    format!("the table says that {count} of {sent} rows were written: {SWALLOWED}")
}

/// Why that may be.
pub(crate) const SWALLOWED: &str = "a trigger or a rule takes rows away or sends them elsewhere; let it return the row, or drop it";

impl BoundStatement {
    /// Prepares and runs the statement; how many rows it wrote.
    pub(crate) async fn execute(&self, connection: &mut Connection) -> Result<u64, SinkError> {
        let failed = |error| classify_write(&self.table, error);
        let statement = connection.prepare(&self.sql).await.map_err(failed)?;
        let values = self.values();
        let executed = connection.client.execute(&statement, &values);
        connection.deadline.record_after(executed).await.map_err(failed)
    }

    pub(crate) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect()
    }
}
