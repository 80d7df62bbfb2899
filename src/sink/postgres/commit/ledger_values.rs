//! Values of the ledger: ranges of offsets, spools and times as the server has them.

use std::error::Error as StdError;
use std::ops::Range;

use bytes::{BufMut, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::model::{Epoch, Offset, OffsetSet};
use crate::sink::postgres::client::error::classify;
use crate::sink::postgres::schema::system_tables::LEDGER;
use crate::sink::postgres::schema::wire_format::POSTGRES_EPOCH_MICROS;
use crate::sink::{DataError, LedgerRow, SinkError};

/// A row of the ledger as the ledger asks for it.
pub(super) fn ledger_row(row: &Row) -> Result<LedgerRow, SinkError> {
    let failed = |error| classify("reading the ledger", error);
    let unreadable = |error: serde_json::Error| unreadable(error.to_string());
    let spools: Vec<&str> = row.try_get(3).map_err(failed)?;
    // NULL for an epoch without offsets.
    let spool_of: Option<Vec<i64>> = row.try_get(4).map_err(failed)?;
    let firsts: Option<Vec<i64>> = row.try_get(5).map_err(failed)?;
    let ends: Option<Vec<i64>> = row.try_get(6).map_err(failed)?;
    let ranges = firsts.unwrap_or_default().into_iter().zip(ends.unwrap_or_default());
    let mut offsets = OffsetSet::default();
    for (at, (first, end)) in spool_of.unwrap_or_default().into_iter().zip(ranges) {
        let spool = usize::try_from(at - 1).ok().and_then(|at| spools.get(at));
        let spool = spool.ok_or_else(|| self::unreadable(format!("no spool number {at}")))?;
        add_range(&mut offsets, parse_spool(spool)?, first..end)?;
    }
    let watermark: Option<Micros> = row.try_get(10).map_err(failed)?;
    Ok(LedgerRow {
        epoch: Epoch(row.try_get::<_, i64>(0).map_err(failed)? as u64),
        queue: row.try_get(1).map_err(failed)?,
        run_id: row.try_get(2).map_err(failed)?,
        offsets,
        landed: serde_json::from_value(row.try_get(7).map_err(failed)?).map_err(unreadable)?,
        results: serde_json::from_value(row.try_get(8).map_err(failed)?).map_err(unreadable)?,
        dead_letters: row.try_get::<_, i64>(9).map_err(failed)?.unsigned_abs(),
        watermark: watermark.map(|micros| micros.0),
        opened_at: row.try_get(11).map_err(failed)?,
        closed_at: row.try_get(12).map_err(failed)?,
        committed_at: row.try_get(13).map_err(failed)?,
    })
}

pub(super) fn ledger_misfit(message: String) -> SinkError {
    let table = Some(LEDGER.to_owned());
    SinkError::Data(DataError { table, column: None, row: None, message, detail: None })
}

pub(super) fn unreadable(what: String) -> SinkError {
    SinkError::Unreadable { table: LEDGER.to_owned(), what }
}

pub(super) fn spool_text(spool: u64) -> String {
    format!("{spool:016x}")
}

pub(super) fn parse_spool(text: &str) -> Result<u64, SinkError> {
    u64::from_str_radix(text, 16).map_err(|_| unreadable(format!("the spool '{text}'")))
}

/// A set of offsets in the arrays that a statement takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    pub(super) spools: Vec<String>,
    /// Of each range the place of its spool.
    pub(super) spool_of: Vec<i32>,
    pub(super) firsts: Vec<i64>,
    pub(super) lasts: Vec<i64>,
}

impl Ranges {
    pub(super) fn of(offsets: &OffsetSet) -> Result<Self, SinkError> {
        let mut ranges = Self::default();
        let mut current = None;
        for (first, last) in offsets.ranges() {
            // Postgres stores [a,b] as [a,b+1), so the highest bigint has no place.
            let fits = i64::try_from(last).ok().filter(|last| *last < i64::MAX);
            let last =
                fits.ok_or_else(|| ledger_misfit(format!("the message id {last} is above 2^63")))?;
            if current != Some(first.spool) {
                current = Some(first.spool);
                ranges.spools.push(spool_text(first.spool));
            }
            ranges.spool_of.push(ranges.spools.len() as i32);
            ranges.firsts.push(first.id as i64);
            ranges.lasts.push(last);
        }
        Ok(ranges)
    }
}

/// Adds `first..end`, as Postgres has ranges.
pub(super) fn add_range(
    set: &mut OffsetSet,
    spool: u64,
    range: Range<i64>,
) -> Result<(), SinkError> {
    let Range { start: first, end } = range;
    match (u64::try_from(first), u64::try_from(end)) {
        (Ok(first), Ok(end)) if first < end => {
            set.insert_range(Offset::new(spool, first), end - 1);
            Ok(())
        }
        _ => Err(unreadable(format!("the ids [{first},{end}) of spool {}", spool_text(spool)))),
    }
}

/// Microseconds since 1970 as a Postgres timestamp.
#[derive(Debug, Clone, Copy)]
pub(super) struct Micros(pub(super) i64);

impl ToSql for Micros {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let micros = self.0.checked_sub(POSTGRES_EPOCH_MICROS);
        out.put_i64(micros.ok_or("the timestamp is before what Postgres can hold")?);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMP);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(micros.checked_add(POSTGRES_EPOCH_MICROS).ok_or("a timestamp out of range")?))
    }

    accepts!(TIMESTAMP);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_arrays_and_come_back() {
        let mut set = OffsetSet::default();
        set.insert_range(Offset::new(1, 5), 9);
        set.insert_range(Offset::new(1, 20), 20);
        set.insert_range(Offset::new(u64::MAX, 0), 3);
        let ranges = Ranges::of(&set).unwrap();
        assert_eq!(ranges.spools, ["0000000000000001", "ffffffffffffffff"]);
        assert_eq!(ranges.spool_of, [1, 1, 2]);
        let mut read = OffsetSet::default();
        for (at, spool) in ranges.spool_of.iter().enumerate() {
            let spool = parse_spool(&ranges.spools[*spool as usize - 1]).unwrap();
            let range = ranges.firsts[at]..ranges.lasts[at] + 1;
            add_range(&mut read, spool, range).unwrap();
        }
        assert_eq!(read, set);
    }

    #[test]
    fn ids_that_a_range_cannot_hold_are_refused() {
        let set: OffsetSet = [Offset::new(1, i64::MAX as u64)].into_iter().collect();
        assert!(Ranges::of(&set).is_err());
        for (first, end) in [(5, 5), (6, 5), (-1, 5)] {
            let added = add_range(&mut OffsetSet::default(), 1, first..end);
            assert!(added.is_err(), "{first}..{end}");
        }
    }
}
