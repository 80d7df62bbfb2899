//! The parts of an epoch's transaction, in their order.

use std::ops::Range;
use std::sync::Arc;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::rows::{Bound, FEW_ROWS, Rows};
use crate::model::{Changelog, ResultChanges};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify_write;
use crate::sink::postgres::client::response_deadline::Silence;
use crate::sink::{DataError, SinkError};

/// One part.
pub(crate) enum Piece<'a> {
    /// A statement for a table of the sink's own, or without rows of the epoch.
    Own(Bound),
    Rows(RowsPiece<'a>),
}

/// Rows for one target.
pub(crate) struct RowsPiece<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) how: How,
    pub(crate) origin: Origin<'a>,
}

#[derive(Clone)]
pub(crate) enum How {
    /// Added to the table, by COPY if they are many.
    Append,
    /// By a statement whose parameters are the columns as arrays.
    Statement(String),
    /// The same, and it must find all of the rows.
    Update(String),
}

/// What the rows are.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    Landing(&'a Changelog),
    Upserts(&'a ResultChanges),
    Deletes(&'a ResultChanges),
}

/// A statement whose values are put together when it goes out.
pub(crate) struct Request<'a> {
    pub(crate) table: &'a str,
    pub(crate) sql: Arc<str>,
    what: What<'a>,
}

enum What<'a> {
    Own(&'a Bound),
    Rows(&'a Rows<'a>, Range<usize>),
}

impl Request<'_> {
    /// Puts the values together, sends them, and tells how many rows were written. The server can be at the
    /// statements before it meanwhile.
    pub(crate) async fn run(
        &self,
        (client, silence): (&Client, &Silence),
        statement: &Statement,
    ) -> Result<u64, SinkError> {
        let ran = match &self.what {
            What::Own(bound) => client.execute(statement, &bound.values()).await,
            What::Rows(rows, range) => {
                let bound = rows.bind_range(&self.sql, range.clone())?;
                client.execute(statement, &bound.values()).await
            }
        };
        silence.is_broken();
        ran.map_err(|error| classify_write(self.table, error))
    }
}

impl Piece<'_> {
    /// As statements that may go out together; `None`: by [`Rows::copy`].
    pub(crate) fn requests(&self) -> Option<Vec<Request<'_>>> {
        match self {
            Self::Rows(piece) => piece.requests(),
            Self::Own(bound) => Some(vec![Request {
                table: &bound.table,
                sql: bound.sql.as_str().into(),
                what: What::Own(bound),
            }]),
        }
    }

    /// Refuses what was written if rows to be updated were not there.
    pub(crate) fn check_found(&self, found: u64) -> Result<(), SinkError> {
        let Self::Rows(RowsPiece { rows, how: How::Update(_), .. }) = self else { return Ok(()) };
        let wanted = rows.count() as u64;
        if found == wanted {
            return Ok(());
        }
        Err(SinkError::Data(DataError {
            table: Some(rows.table().to_owned()),
            column: None,
            row: None,
            message: format!("{found} of {wanted} rows are there that were written before"),
            source: None,
        }))
    }
}

impl RowsPiece<'_> {
    /// As statements that may go out together; `None`: by [`Rows::copy`].
    fn requests(&self) -> Option<Vec<Request<'_>>> {
        let sql: Arc<str> = match &self.how {
            How::Statement(sql) | How::Update(sql) => sql.as_str().into(),
            How::Append if self.rows.count() > FEW_ROWS && self.rows.can_copy() => return None,
            How::Append => self.rows.insert_sql().into(),
        };
        let request = |range| {
            let what = What::Rows(&self.rows, range);
            Request { table: self.rows.table(), sql: Arc::clone(&sql), what }
        };
        Some(self.rows.ranges().into_iter().map(request).collect())
    }

    /// Whether an error names the row that it is about.
    pub(crate) fn tells_rows(&self) -> bool {
        matches!(self.how, How::Append) && self.rows.can_copy()
    }

    /// To be called once in a transaction, and outside of savepoints, before [`Self::write`].
    pub(crate) async fn check_columns(&self, connection: &mut Connection) -> Result<(), SinkError> {
        match self.tells_rows() {
            true => self.rows.check_columns(connection).await,
            false => Ok(()),
        }
    }

    /// Some of the rows, in the way that tells most about a row that is refused.
    pub(crate) async fn write(
        &self,
        connection: &mut Connection,
        range: Range<usize>,
    ) -> Result<(), SinkError> {
        match &self.how {
            How::Append if self.rows.can_copy() => self.rows.stream(connection, range).await,
            _ => self.bind(range)?.execute(connection).await.map(drop),
        }
    }

    /// The statement that writes some of the rows.
    pub(crate) fn bind(&self, range: Range<usize>) -> Result<Bound, SinkError> {
        match &self.how {
            How::Append => self.rows.bind_range(&self.rows.insert_sql(), range),
            How::Statement(sql) | How::Update(sql) => self.rows.bind_range(sql, range),
        }
    }

    /// The statement that writes rows from another place than arrays.
    pub(crate) fn sql_from(&self, place: &str) -> String {
        let given = self.rows.target().given();
        match &self.how {
            How::Append => self.rows.insert_sql().replacen(&given, place, 1),
            How::Statement(sql) | How::Update(sql) => sql.replacen(&given, place, 1),
        }
    }

    /// Those of the rows that are `kept`.
    pub(crate) fn filter(&self, kept: &[bool]) -> Result<RowsPiece<'_>, SinkError> {
        let rows = self.rows.filter(&kept.to_vec().into())?;
        Ok(RowsPiece { rows, how: self.how.clone(), origin: self.origin })
    }
}

impl Bound {
    /// Prepares and runs the statement; how many rows it wrote.
    pub(crate) async fn execute(&self, connection: &mut Connection) -> Result<u64, SinkError> {
        let failed = |error| classify_write(&self.table, error);
        let statement = connection.prepare(&self.sql).await.map_err(failed)?;
        let values = self.values();
        let executed = connection.client.execute(&statement, &values);
        connection.silence.is_broken_by(executed).await.map_err(failed)
    }

    pub(crate) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect()
    }
}
