//! The parts of an epoch's transaction, in their order.

use std::ops::Range;

use tokio_postgres::types::ToSql;

use super::connection::Connection;
use super::fault::classify_write;
use super::rows::{Bound, FEW_ROWS, Rows};
use crate::changelog::{Changelog, ResultChanges};
use crate::sink::SinkError;

/// One part.
pub(super) enum Piece<'a> {
    /// A statement for a table of the sink's own, or without rows of the epoch.
    Own(Bound),
    Rows(RowsPiece<'a>),
}

/// Rows for one target.
pub(super) struct RowsPiece<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) how: How,
    pub(super) origin: Origin<'a>,
}

pub(super) enum How {
    /// Added to the table, by COPY if they are many.
    Append,
    /// By a statement whose parameters are the columns as arrays.
    Statement(String),
}

/// What the rows are.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    Landing(&'a Changelog),
    Upserts(&'a ResultChanges),
    Deletes(&'a ResultChanges),
}

impl RowsPiece<'_> {
    /// As statements that may go out together; `None`: by [`Self::copy`].
    pub(super) fn statements(&self) -> Result<Option<Vec<Bound>>, SinkError> {
        match &self.how {
            How::Statement(sql) => self.rows.bind(sql).map(Some),
            How::Append if self.rows.count() > FEW_ROWS && self.rows.can_copy() => Ok(None),
            How::Append => self.rows.bind(&self.rows.insert_sql()).map(Some),
        }
    }

    /// Whether an error names the row that it is about.
    pub(super) fn tells_rows(&self) -> bool {
        matches!(self.how, How::Append) && self.rows.can_copy()
    }

    /// Some of the rows, in the way that tells most about a row that is refused.
    pub(super) async fn write(
        &self,
        connection: &mut Connection,
        range: Range<usize>,
    ) -> Result<(), SinkError> {
        let bound = match &self.how {
            How::Append if self.rows.can_copy() => return self.rows.copy(connection, range).await,
            How::Append => self.rows.bind_range(&self.rows.insert_sql(), range)?,
            How::Statement(sql) => self.rows.bind_range(sql, range)?,
        };
        bound.execute(connection).await?;
        Ok(())
    }
}

impl Bound {
    /// Prepares and runs the statement; how many rows it wrote.
    pub(super) async fn execute(&self, connection: &mut Connection) -> Result<u64, SinkError> {
        let failed = |error| classify_write(&self.table, error);
        let statement = connection.prepare(&self.sql).await.map_err(failed)?;
        let values = self.values();
        let executed = connection.client.execute(&statement, &values);
        connection.silence.is_broken_by(executed).await.map_err(failed)
    }

    pub(super) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect()
    }
}
