//! The newest row per key of a landing table, as changelogs.

use std::error::Error as StdError;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use futures::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use crate::model::{
    Changelog, EventId, FieldType, Operation, Position, PromotedColumn, Scn, SureType,
    SystemColumn, Table, extract, sql_type,
};
use crate::sink::postgres::client::connection::Connection;
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::client::quote;
use crate::sink::postgres::schema::landing_columns::{
    CHANGE_SEQ, EVENT_ID, EXTRA_FIELDS, OPERATION, SOURCE_SCN, SOURCE_TS, UNAVAILABLE, is_current,
    target_name,
};
use crate::sink::postgres::schema::numeric;
use crate::sink::postgres::schema::wire_format::{
    POSTGRES_EPOCH_DAYS, POSTGRES_EPOCH_MICROS, Wire,
};
use crate::sink::postgres::target::current::{deleted_rows, is_still_deleted};
use crate::sink::postgres::target::table::TargetTable;
use crate::sink::{BOOTSTRAP_BYTES, BOOTSTRAP_ROWS, SinkError, TakeRows};

/// How the landing tables are read.
pub(crate) const READ_ONLY: &str = "ISOLATION LEVEL READ COMMITTED READ ONLY";

/// Which newest rows are read: those that changed `since` a time, in microseconds since 1970.
#[derive(Clone, Copy)]
pub(crate) struct NewestRows<'a> {
    pub(crate) schema: &'a str,
    pub(crate) target: Option<&'a TargetTable>,
    pub(crate) table: &'a Arc<Table>,
    pub(crate) since: Option<i64>,
}

/// Reads the newest row of each key; rows are streamed, and only the chunk at hand is in memory.
pub(crate) async fn read(
    connection: &mut Connection,
    NewestRows { schema, target, table, since }: NewestRows<'_>,
    take: TakeRows<'_>,
) -> Result<(), SinkError> {
    let Some(name) = target_name(table) else { return Ok(()) };
    let doing = format!("reading {name}");
    let failed = |error| classify(&doing, error);
    connection.begin_long(READ_ONLY).await.map_err(failed)?;
    let columns = newest_columns(table, target);
    let landed = quote::table(schema, name);
    let newest = if is_current(table) {
        let is_it = is_still_deleted(table, &landed);
        let deleted = deleted_rows(schema, table, &landed, &is_it);
        format!("SELECT * FROM {landed} UNION ALL SELECT was.* FROM {deleted}")
    } else {
        newest_of_all(table, &landed)
    };
    let sql = select(table, &columns, &newest, since.is_some());
    let since = since.map(|since| since.saturating_sub(POSTGRES_EPOCH_MICROS));
    let since = since.iter().map(|since| (since, Type::INT8));
    let rows = connection.client.query_typed_raw(&sql, since).await.map_err(failed)?;
    let mut rows = pin!(rows);
    let mut read = ReadRows::new(table, name, take);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        connection.deadline.record_activity();
        if read.add(row)?.is_break() {
            break;
        }
    }
    read.finish()?;
    connection.commit().await.map_err(failed)
}

/// The declared columns in their natural types, then the landing table's own, all of `newest`. A value
/// that the newest change did not carry is looked up in the changes before it.
pub(crate) fn newest_columns(table: &Table, target: Option<&TargetTable>) -> String {
    let column = |name: &str| format!("newest.{}", quote::ident(name));
    // Current rows have all values that are known.
    let landing = target
        .filter(|target| !is_current(table) && target.has_column(&table.free_name(UNAVAILABLE)));
    let declared = table.declared().iter().enumerate().map(|(at, declared)| {
        let natural = Wire::natural(&declared.data_type).map(Wire::sql);
        let value = match landing.filter(|_| !table.key.contains(&at)) {
            Some(landing) => carried(table, &landing.sql_name, &declared.name),
            None => column(&declared.name),
        };
        format!("{value}::{}", natural.unwrap_or_else(|| "text".to_owned()))
    });
    let own = [
        (OPERATION, "text"),
        (SOURCE_TS, "timestamp"),
        (EXTRA_FIELDS, "text"),
        (EVENT_ID, "text"),
        (CHANGE_SEQ, "bigint"),
    ]
    .map(|(name, sql_type)| match name {
        EXTRA_FIELDS => format!("{}::{sql_type}", with_promoted(table)),
        name => format!("{}::{sql_type}", column(&table.free_name(name))),
    });
    let scn = table.free_name(SOURCE_SCN);
    let scn = if target.is_some_and(|target| target.has_column(&scn)) {
        column(&scn)
    } else {
        "NULL".to_owned()
    };
    declared.chain(own).chain([format!("{scn}::bigint")]).collect::<Vec<_>>().join(", ")
}

/// All fields that no file declares, also those that have columns of their own.
fn with_promoted(table: &Table) -> String {
    let extra_fields = format!("newest.{}", quote::ident(&table.free_name(EXTRA_FIELDS)));
    if table.learned.promoted.is_empty() {
        return extra_fields;
    }
    let promoted =
        table.learned.promoted.iter().map(|PromotedColumn { field, column, field_type }| {
            let column = format!("newest.{}", quote::ident(column));
            let value = match field_type {
                // As an event's own time is written.
                FieldType::Known(SureType::Timestamp) => {
                    format!("to_char({column}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US')")
                }
                _ => column.clone(),
            };
            let object = format!("jsonb_build_object({}, {value})", quote::literal(field));
            format!(" || CASE WHEN {column} IS NULL THEN '{{}}'::jsonb ELSE {object} END")
        });
    let promoted: String = promoted.collect();
    format!("NULLIF(COALESCE({extra_fields}::jsonb, '{{}}'::jsonb){promoted}, '{{}}'::jsonb)")
}

/// The value of a column in the newest change that carried it, but none from before a delete.
fn carried(table: &Table, landing: &str, column: &str) -> String {
    let own = |of: &str, name: &str| format!("{of}.{}", quote::ident(&table.free_name(name)));
    let is_unavailable =
        |of: &str| format!("{}::jsonb ? {}", own(of, UNAVAILABLE), quote::literal(column));
    let same_key = table.key.iter().map(|at| {
        let key = quote::ident(&table.columns[*at].name);
        format!("older.{key} = newest.{key}")
    });
    let column = quote::ident(column);
    format!(
        "(CASE WHEN {} IS NULL OR NOT ({}) THEN newest.{column} ELSE (\
         SELECT CASE WHEN {is_delete} THEN NULL ELSE older.{column} END FROM {landing} AS older \
         WHERE {} AND {} < {} AND ({is_delete} OR {} IS NULL OR NOT ({})) \
         ORDER BY {} DESC LIMIT 1) END)",
        own("newest", UNAVAILABLE),
        is_unavailable("newest"),
        same_key.collect::<Vec<_>>().join(" AND "),
        own("older", CHANGE_SEQ),
        own("newest", CHANGE_SEQ),
        own("older", UNAVAILABLE),
        is_unavailable("older"),
        own("older", CHANGE_SEQ),
        is_delete = format_args!("{} = 'd'", own("older", OPERATION)),
    )
}

/// The newest of all changes of each key.
fn newest_of_all(table: &Table, landed: &str) -> String {
    let key = quote::idents(table.key.iter().map(|at| table.columns[*at].name.as_str()));
    let seq = quote::ident(&table.free_name(CHANGE_SEQ));
    format!("SELECT DISTINCT ON ({key}) * FROM {landed} ORDER BY {key}, {seq} DESC")
}

/// `newest` is a query.
fn select(table: &Table, columns: &str, newest: &str, has_since: bool) -> String {
    let ts = quote::ident(&table.free_name(SOURCE_TS));
    // Positions and times disagree at times: first the newest by position, then its time.
    let recent = format!(
        "WHERE newest.{ts}::timestamp >= \
         'epoch'::timestamp + make_interval(days => 10957) + $1::bigint * interval '1 microsecond'"
    );
    format!(
        "SELECT {columns} FROM ({newest}) AS newest {}",
        if has_since { recent.as_str() } else { "" },
    )
}

/// Rows with [`newest_columns`] on their way to changelogs, none of which is too large.
pub(crate) struct ReadRows<'a> {
    table: &'a Arc<Table>,
    /// The landing table's.
    name: &'a str,
    chunk: Vec<Row>,
    bytes: usize,
    take: TakeRows<'a>,
}

impl<'a> ReadRows<'a> {
    pub(crate) fn new(table: &'a Arc<Table>, name: &'a str, take: TakeRows<'a>) -> Self {
        Self { table, name, chunk: Vec::new(), bytes: 0, take }
    }

    /// Whether more rows are wanted.
    pub(crate) fn add(&mut self, row: Row) -> Result<ControlFlow<()>, SinkError> {
        self.bytes += row.raw_size_bytes();
        self.chunk.push(row);
        if self.chunk.len() == BOOTSTRAP_ROWS || self.bytes >= BOOTSTRAP_BYTES {
            return self.close();
        }
        Ok(ControlFlow::Continue(()))
    }

    fn close(&mut self) -> Result<ControlFlow<()>, SinkError> {
        let rows = changelog(self.table, self.name, &self.chunk)?;
        self.chunk.clear();
        self.bytes = 0;
        Ok((self.take)(rows))
    }

    /// Rows keep their statements, which must be gone before their transaction is: it ends after this.
    pub(crate) fn finish(mut self) -> Result<(), SinkError> {
        if !self.chunk.is_empty() {
            let _is_last = self.close()?;
        }
        Ok(())
    }
}

fn changelog(table: &Arc<Table>, name: &str, rows: &[Row]) -> Result<Changelog, SinkError> {
    let unreadable = |what: String| SinkError::Unreadable { table: name.to_owned(), what };
    let mut arrays = Vec::with_capacity(table.columns.len() + SystemColumn::ALL.len());
    for (index, column) in table.declared().iter().enumerate() {
        let array = array(rows, index, &column.data_type).ok_or_else(|| {
            unreadable(format!(
                "a value in {} that is no {}",
                column.name,
                sql_type(&column.data_type)
            ))
        })?;
        arrays.push(array);
    }
    let own = |place: usize, data_type: &DataType| {
        array(rows, table.declared().len() + place, data_type)
            .ok_or_else(|| unreadable("a system column of another type".to_owned()))
    };
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let (op, source_ts) = (own(0, &DataType::Utf8)?, own(1, &timestamp)?);
    let (extra_fields, event_id) = (own(2, &DataType::Utf8)?, own(3, &DataType::Utf8)?);
    let (positions, scns) = (own(4, &DataType::Int64)?, own(5, &DataType::Int64)?);
    let operations = op.as_string::<i32>().iter().map(|letter| {
        let known = letter.and_then(Operation::from_letter);
        known.ok_or_else(|| unreadable(format!("the operation {letter:?}")))
    });
    let operations = operations.collect::<Result<Vec<_>, _>>()?;
    let offsets = event_id.as_string::<i32>().iter().map(|id| {
        let offset = id.and_then(EventId::message);
        offset.ok_or_else(|| unreadable(format!("the event_id {id:?}, which is no message id")))
    });
    let offsets = offsets.collect::<Result<Vec<_>, _>>()?;
    if positions.null_count() > 0 {
        return Err(unreadable(format!("rows without {CHANGE_SEQ}")));
    }
    let event_time = match table.options.event_time {
        Some(at) => as_event_time(&arrays[at]).ok_or_else(|| {
            unreadable(format!("no time in the event-time column {}", table.columns[at].name))
        })?,
        None => ArrayRef::clone(&source_ts),
    };
    let topic: ArrayRef = Arc::new(StringArray::from(vec![""; rows.len()]));
    arrays.extend(extract(table, extra_fields.as_string()));
    arrays.extend([op, source_ts, event_time, event_id, topic, extra_fields]);
    let batch = RecordBatch::try_new(table.changelog_schema(), arrays)
        .map_err(|error| unreadable(error.to_string()))?;
    let positions = positions.as_primitive::<Int64Type>().values().iter().copied();
    let scns = scns.as_primitive::<Int64Type>().iter();
    Ok(Changelog {
        table: Arc::clone(table),
        batch,
        offsets,
        positions: positions.map(Position).collect(),
        operations,
        scns: scns.map(|scn| scn.and_then(Scn::new)).collect(),
        unchanged: Vec::new(),
        truncations: Vec::new(),
    })
}

fn as_event_time(array: &ArrayRef) -> Option<ArrayRef> {
    cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None)).ok()
}

/// A column of rows in its natural wire form; `None` if a value does not fit the type.
fn array(rows: &[Row], index: usize, data_type: &DataType) -> Option<ArrayRef> {
    fn fixed<const N: usize>(raw: &[u8]) -> Option<[u8; N]> {
        raw.try_into().ok()
    }
    let micros = |raw: &[u8]| {
        let micros = i64::from_be_bytes(fixed(raw)?);
        // The limits of the type are 'infinity', which has no place in Arrow.
        let is_finite = micros != i64::MAX && micros != i64::MIN;
        is_finite.then(|| micros.checked_add(POSTGRES_EPOCH_MICROS)).flatten()
    };
    Some(match data_type {
        DataType::Boolean => {
            Arc::new(collect::<BooleanArray, _>(rows, index, |raw| Some(fixed::<1>(raw)?[0] != 0))?)
        }
        DataType::Int16 => Arc::new(collect::<Int16Array, _>(rows, index, |raw| {
            Some(i16::from_be_bytes(fixed(raw)?))
        })?),
        DataType::Int32 => Arc::new(collect::<Int32Array, _>(rows, index, |raw| {
            Some(i32::from_be_bytes(fixed(raw)?))
        })?),
        DataType::Int64 => Arc::new(collect::<Int64Array, _>(rows, index, |raw| {
            Some(i64::from_be_bytes(fixed(raw)?))
        })?),
        DataType::Float64 => Arc::new(collect::<Float64Array, _>(rows, index, |raw| {
            Some(f64::from_be_bytes(fixed(raw)?))
        })?),
        DataType::Decimal128(precision, scale) => {
            let array: Decimal128Array = collect(rows, index, |raw| numeric::decode(raw, *scale))?;
            Arc::new(array.with_precision_and_scale(*precision, *scale).ok()?)
        }
        DataType::Utf8 => {
            Arc::new(collect::<StringArray, _>(rows, index, |raw| std::str::from_utf8(raw).ok())?)
        }
        DataType::Binary => Arc::new(collect::<BinaryArray, _>(rows, index, Some)?),
        DataType::Date32 => Arc::new(collect::<Date32Array, _>(rows, index, |raw| {
            i32::from_be_bytes(fixed(raw)?).checked_add(POSTGRES_EPOCH_DAYS)
        })?),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let array: TimestampMicrosecondArray = collect(rows, index, micros)?;
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        _ => return None,
    })
}

/// One array of a column; `None` if any value that is not NULL does not decode.
fn collect<'a, A, T>(
    rows: &'a [Row],
    index: usize,
    decode: impl Fn(&'a [u8]) -> Option<T>,
) -> Option<A>
where
    A: FromIterator<Option<T>>,
{
    let value = |row: &'a Row| match row.try_get::<_, Option<Raw<'a>>>(index).ok()? {
        None => Some(None),
        Some(raw) => decode(raw.0).map(Some),
    };
    rows.iter().map(value).collect()
}

/// A value as it came over the wire.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
