//! Rows on their way into a target: as arrays of one statement if they are few, else by COPY.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, BooleanArray, TimestampMicrosecondArray};
use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::CopyInSink;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::check_statement::CheckStatement;
use super::column::TargetColumn;
use super::table::TargetTable;
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify_write;
use crate::sink::postgres::client::response_deadline::ResponseDeadline;
use crate::sink::postgres::schema::catalog::FINGERPRINT;
use crate::sink::postgres::schema::wire_format::{Wire, WireCells};
use crate::sink::{DataError, SinkError};

/// Up to here one pipelined statement is faster than COPY with its extra round trip.
const FEW_ROWS: usize = 512;
/// The same in bytes: a statement is in memory three times while it is sent, and COPY goes out in pieces.
const FEW_BYTES: usize = 1 << 20;
/// The most rows in one statement of arrays.
const STATEMENT_ROWS: usize = 4096;
/// About the most bytes in one statement of arrays.
const STATEMENT_BYTES: usize = 8 << 20;
/// Encoded rows are handed to the socket in pieces of about this size.
const COPY_CHUNK: usize = 128 << 10;
/// Signature, no flags, no header extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Parameters in the order of their numbers.
pub(crate) type StatementParams = Vec<Box<dyn ToSql + Sync + Send>>;

/// A statement with its values, ready to be sent.
pub(crate) struct BoundStatement {
    /// The table that it writes to, for errors.
    pub(crate) table: String,
    pub(crate) sql: String,
    pub(crate) params: StatementParams,
}

/// Columns in the wire forms of a target.
pub(crate) struct EncodedRows<'a> {
    target: Cow<'a, TargetTable>,
    cells: Vec<WireCells>,
    count: usize,
    bytes: usize,
}

impl<'a> EncodedRows<'a> {
    /// `arrays` are the target's columns without its stamp.
    pub(crate) fn new(
        target: impl Into<Cow<'a, TargetTable>>,
        mut arrays: Vec<ArrayRef>,
        processed_at: SystemTime,
    ) -> Result<Self, SinkError> {
        let target = target.into();
        let count = arrays.first().map_or(0, |array| array.len());
        if target.is_stamped {
            let stamp = TimestampMicrosecondArray::from_value(micros(processed_at), count);
            arrays.push(Arc::new(stamp.with_timezone("UTC")));
        }
        if arrays.len() != target.columns.len() {
            let problem = format!("{}: its columns are others than those checked", target.name);
            return Err(SinkError::Targets { problems: vec![problem] });
        }
        let bytes = arrays.iter().map(|array| array.get_array_memory_size()).sum();
        let cells = arrays.iter().zip(&target.columns);
        let cells = cells.map(|(array, column)| target.cells(column, array));
        let cells = cells.collect::<Result<_, _>>()?;
        Ok(Self { target, cells, count, bytes })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn target(&self) -> &TargetTable {
        &self.target
    }

    /// The target as the configuration names it.
    pub(crate) fn table(&self) -> &str {
        &self.target.name
    }

    pub(crate) fn columns(&self) -> impl Iterator<Item = (&WireCells, &TargetColumn)> {
        self.cells.iter().zip(&self.target.columns)
    }

    /// The statement that adds them.
    pub(crate) fn insert_sql(&self) -> String {
        self.target.insert_sql("")
    }

    pub(crate) fn can_copy(&self) -> bool {
        self.target.can_copy()
    }

    /// Whether COPY is possible and better than statements.
    pub(crate) fn is_for_copy(&self) -> bool {
        self.can_copy() && (self.count > FEW_ROWS || self.bytes > FEW_BYTES)
    }

    /// What tells which rows break a constraint of their table.
    pub(crate) fn checks(&self) -> Option<&CheckStatement> {
        self.target.checks.as_deref()
    }

    /// Those of the rows that are `kept`.
    pub(crate) fn filter(&self, kept: &BooleanArray) -> Result<EncodedRows<'_>, SinkError> {
        let cells = self.cells.iter().zip(&self.target.columns).map(|(cells, column)| {
            let filtered = cells.filter(kept);
            filtered.map_err(|error| self.misfit(column, None, error.to_string()))
        });
        let cells = cells.collect::<Result<_, _>>()?;
        let count = kept.true_count();
        let bytes = self.bytes * count / self.count.max(1);
        Ok(EncodedRows { target: Cow::Borrowed(&self.target), cells, count, bytes })
    }

    /// The rows of each of the statements that write all of them.
    pub(crate) fn ranges(&self) -> Vec<Range<usize>> {
        let fitting = STATEMENT_BYTES * self.count / self.bytes.max(1);
        let step = fitting.clamp(1, STATEMENT_ROWS);
        let starts = (0..self.count).step_by(step);
        starts.map(|start| start..(start + step).min(self.count)).collect()
    }

    /// All rows as statements `sql`.
    pub(crate) fn bind(&self, sql: &str) -> Result<Vec<BoundStatement>, SinkError> {
        self.ranges().into_iter().map(|range| self.bind_range(sql, range)).collect()
    }

    /// Some rows as statements `sql`.
    pub(crate) fn bind_within(
        &self,
        sql: &str,
        range: Range<usize>,
    ) -> Result<Vec<BoundStatement>, SinkError> {
        let within = |part: Range<usize>| {
            let part = part.start.max(range.start)..part.end.min(range.end);
            (!part.is_empty()).then_some(part)
        };
        let parts = self.ranges().into_iter().filter_map(within);
        parts.map(|part| self.bind_range(sql, part)).collect()
    }

    /// A statement `sql` whose parameters are the columns of some rows as arrays.
    pub(crate) fn bind_range(
        &self,
        sql: &str,
        range: Range<usize>,
    ) -> Result<BoundStatement, SinkError> {
        self.bound(sql, self.columns(), range)
    }

    /// The same with some of the columns.
    pub(crate) fn bind_columns(
        &self,
        sql: &str,
        columns: &[usize],
        range: Range<usize>,
    ) -> Result<BoundStatement, SinkError> {
        let columns = columns.iter().map(|at| (&self.cells[*at], &self.target.columns[*at]));
        self.bound(sql, columns, range)
    }

    fn bound<'c>(
        &self,
        sql: &str,
        columns: impl Iterator<Item = (&'c WireCells, &'c TargetColumn)>,
        range: Range<usize>,
    ) -> Result<BoundStatement, SinkError> {
        let mut params = StatementParams::with_capacity(self.cells.len());
        for (cells, column) in columns {
            let array = ArrayParam::new(cells, column.wire, range.clone())
                .map_err(|(row, message)| self.misfit(column, Some(row), message))?;
            params.push(Box::new(array));
        }
        Ok(BoundStatement { table: self.target.name.clone(), sql: sql.to_owned(), params })
    }

    /// Streams rows, after a last look at the columns, and tells how many the server has counted. The row of an error is that
    /// of the batch.
    pub(crate) async fn copy(
        &self,
        connection: &mut Connection,
        range: Range<usize>,
    ) -> Result<u64, SinkError> {
        self.check_columns(connection).await?;
        self.stream(connection, range).await
    }

    /// Streams rows to their target. To be called after [`Self::check_columns`] in the same transaction.
    pub(crate) async fn stream(
        &self,
        connection: &mut Connection,
        range: Range<usize>,
    ) -> Result<u64, SinkError> {
        self.stream_by(connection, &self.target.copy_sql(), range).await
    }

    /// Streams rows by a COPY of as many columns; encoding goes on while the server takes what was encoded.
    pub(crate) async fn stream_by(
        &self,
        connection: &mut Connection,
        copy_sql: &str,
        range: Range<usize>,
    ) -> Result<u64, SinkError> {
        let failed = |error| match classify_write(&self.target.name, error) {
            SinkError::Data(data) => {
                let row = data.row.map(|row| row + range.start);
                SinkError::Data(DataError { row, ..data })
            }
            other => other,
        };
        let statement = connection.prepare(copy_sql).await.map_err(failed)?;
        let begun = connection.client.copy_in::<_, Bytes>(&statement).await;
        // The library ends the COPY that never began, and the server's answer to that is one too many.
        connection.is_out_of_step |= begun.is_err();
        let sink = begun.map_err(failed)?;
        connection.deadline.record_activity();
        let buffer = BytesMut::with_capacity(COPY_CHUNK + COPY_CHUNK / 8);
        let mut pieces = CopyPieces { sink: pin!(sink), buffer, deadline: &connection.deadline };
        pieces.buffer.put_slice(COPY_HEADER);
        for row in range.clone() {
            pieces.buffer.put_i16(self.cells.len() as i16);
            for (cells, column) in self.columns() {
                let begun = cells.begin(row, &mut pieces.buffer);
                let rest = begun.map_err(|message| self.misfit(column, Some(row), message))?;
                pieces.put(rest).await.map_err(failed)?;
            }
            pieces.send_if_full().await.map_err(failed)?;
        }
        pieces.buffer.put_i16(-1);
        pieces.send().await.map_err(failed)?;
        let count = pieces.sink.finish().await.map_err(failed)?;
        connection.deadline.record_activity();
        Ok(count)
    }

    /// Binary COPY would take a bigint for a timestamp: both are 8 bytes. So the columns are looked at
    /// once more, with the lock held that keeps others from altering them.
    pub(crate) async fn check_columns(&self, connection: &mut Connection) -> Result<(), SinkError> {
        let failed = |error| classify_write(&self.target.name, error);
        let statement = connection.prepare(FINGERPRINT).await.map_err(failed)?;
        let (schema, table) = &self.target.place;
        let place: [&(dyn ToSql + Sync); 2] = [schema, table];
        let lock = format!("LOCK TABLE {} IN ROW EXCLUSIVE MODE", self.target.sql_name);
        let (locked, row) = futures::join!(
            connection.client.batch_execute(&lock),
            connection.client.query_one(&statement, &place)
        );
        locked.map_err(failed)?;
        let now: String = row.and_then(|row| row.try_get(0)).map_err(failed)?;
        if now == self.target.fingerprint {
            return Ok(());
        }
        Err(SinkError::Refused {
            doing: format!("writing to {}", self.target.name),
            message: "its columns were altered since they were checked".to_owned(),
            advice: "they are checked again by themselves",
            source: None,
        })
    }

    fn misfit(&self, column: &TargetColumn, row: Option<usize>, message: String) -> SinkError {
        SinkError::Data(self.target.misfit(column, row, message))
    }
}

/// What a COPY sends: pieces of about [`COPY_CHUNK`] bytes, so that a large value is not in memory once more.
struct CopyPieces<'c> {
    sink: Pin<&'c mut CopyInSink<Bytes>>,
    buffer: BytesMut,
    deadline: &'c ResponseDeadline,
}

impl CopyPieces<'_> {
    async fn put(&mut self, bytes: &[u8]) -> Result<(), tokio_postgres::Error> {
        for piece in bytes.chunks(COPY_CHUNK) {
            self.buffer.put_slice(piece);
            self.send_if_full().await?;
        }
        Ok(())
    }

    async fn send_if_full(&mut self) -> Result<(), tokio_postgres::Error> {
        if self.buffer.len() >= COPY_CHUNK {
            self.send().await?;
            self.buffer.reserve(COPY_CHUNK + COPY_CHUNK / 8);
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), tokio_postgres::Error> {
        self.sink.feed(self.buffer.split().freeze()).await?;
        self.deadline.record_activity();
        Ok(())
    }
}

/// Microseconds since 1970.
pub(crate) fn micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    }
}

/// A one-dimensional array parameter, already in its binary form.
#[derive(Debug)]
struct ArrayParam(BytesMut);

impl ArrayParam {
    fn new(cells: &WireCells, wire: Wire, range: Range<usize>) -> Result<Self, (usize, String)> {
        let mut out = BytesMut::with_capacity(20 + range.len() * 12);
        out.put_i32(1);
        // "May hold NULLs": the receiver looks at the elements anyway.
        out.put_i32(1);
        out.put_u32(wire.client_type().oid());
        out.put_i32(range.len() as i32);
        out.put_i32(1);
        for row in range {
            cells.write(row, &mut out).map_err(|message| (row, message))?;
        }
        Ok(Self(out))
    }
}

impl ToSql for ArrayParam {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
