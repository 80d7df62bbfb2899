//! The parts of an epoch's transaction, in their order.

use std::ops::Range;
use std::sync::Arc;

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::rows::{BoundStatement, EncodedRows, FEW_ROWS};
use crate::model::{Changelog, ResultChanges};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify_write;
use crate::sink::{DataError, SinkError};

/// One part.
pub(crate) enum TargetWrite<'a> {
    /// A statement for a table of the sink's own, or without rows of the epoch.
    Statement(BoundStatement),
    Rows(RowWrite<'a>),
}

/// Rows for one target.
pub(crate) struct RowWrite<'a> {
    pub(crate) rows: EncodedRows<'a>,
    pub(crate) method: WriteMethod,
    pub(crate) origin: RowOrigin<'a>,
}

#[derive(Clone)]
pub(crate) enum WriteMethod {
    /// Added to the table, by COPY if they are many.
    Append,
    /// By a statement whose parameters are the columns as arrays.
    Statement(String),
    /// The same, and it must find all of the rows.
    Update(String),
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
                client.execute(statement, &bound.values()).await
            }
        };
        connection.deadline.record_activity();
        ran.map_err(|error| classify_write(self.table, error))
    }
}

impl TargetWrite<'_> {
    /// As statements that may go out together; `None`: by [`EncodedRows::copy`].
    pub(crate) fn requests(&self) -> Option<Vec<PendingStatement<'_>>> {
        match self {
            Self::Rows(row_write) => row_write.requests(),
            Self::Statement(bound) => Some(vec![PendingStatement {
                table: &bound.table,
                sql: bound.sql.as_str().into(),
                what: PendingValues::Statement(bound),
            }]),
        }
    }

    /// Refuses what was written if rows to be updated were not there.
    pub(crate) fn check_found(&self, found: u64) -> Result<(), SinkError> {
        let Self::Rows(RowWrite { rows, method: WriteMethod::Update(_), .. }) = self else {
            return Ok(());
        };
        let wanted = rows.count() as u64;
        if found == wanted {
            return Ok(());
        }
        Err(SinkError::Data(DataError {
            table: Some(rows.table().to_owned()),
            column: None,
            row: None,
            message: format!("{found} of {wanted} rows are there that were written before"),
            detail: None,
        }))
    }
}

impl RowWrite<'_> {
    /// As statements that may go out together; `None`: by [`EncodedRows::copy`].
    fn requests(&self) -> Option<Vec<PendingStatement<'_>>> {
        let sql: Arc<str> = match &self.method {
            WriteMethod::Statement(sql) | WriteMethod::Update(sql) => sql.as_str().into(),
            WriteMethod::Append if self.rows.count() > FEW_ROWS && self.rows.can_copy() => {
                return None;
            }
            WriteMethod::Append => self.rows.insert_sql().into(),
        };
        let request = |range| {
            let what = PendingValues::Rows(&self.rows, range);
            PendingStatement { table: self.rows.table(), sql: Arc::clone(&sql), what }
        };
        Some(self.rows.ranges().into_iter().map(request).collect())
    }

    /// Whether an error names the row that it is about.
    pub(crate) fn tells_rows(&self) -> bool {
        matches!(self.method, WriteMethod::Append) && self.rows.can_copy()
    }

    /// To be called once in a transaction, and outside of savepoints, before [`Self::write`].
    pub(crate) async fn check_columns(&self, connection: &mut Connection) -> Result<(), SinkError> {
        if self.tells_rows() { self.rows.check_columns(connection).await } else { Ok(()) }
    }

    /// Some of the rows, in the way that tells most about a row that is refused.
    pub(crate) async fn write(
        &self,
        connection: &mut Connection,
        range: Range<usize>,
    ) -> Result<(), SinkError> {
        match &self.method {
            WriteMethod::Append if self.rows.can_copy() => {
                self.rows.stream(connection, range).await
            }
            _ => self.bind(range)?.execute(connection).await.map(drop),
        }
    }

    /// The statement that writes some of the rows.
    pub(crate) fn bind(&self, range: Range<usize>) -> Result<BoundStatement, SinkError> {
        match &self.method {
            WriteMethod::Append => self.rows.bind_range(&self.rows.insert_sql(), range),
            WriteMethod::Statement(sql) | WriteMethod::Update(sql) => {
                self.rows.bind_range(sql, range)
            }
        }
    }

    /// The statement that writes rows from another place than arrays.
    pub(crate) fn sql_from(&self, place: &str) -> String {
        let given = self.rows.target().given();
        match &self.method {
            WriteMethod::Append => self.rows.insert_sql().replacen(&given, place, 1),
            WriteMethod::Statement(sql) | WriteMethod::Update(sql) => {
                sql.replacen(&given, place, 1)
            }
        }
    }

    /// Those of the rows that are `kept`.
    pub(crate) fn filter(&self, kept: &[bool]) -> Result<RowWrite<'_>, SinkError> {
        let rows = self.rows.filter(&kept.to_vec().into())?;
        Ok(RowWrite { rows, method: self.method.clone(), origin: self.origin })
    }
}

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
