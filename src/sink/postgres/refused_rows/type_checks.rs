//! Values that a column refuses, told from its type alone.
//!
//! Only what Postgres is sure to refuse or to cut off: an event that is diverted for nothing is lost to the results.

use arrow::array::{Decimal128Array, StringArray};

use super::refusal::RowRefusal;
use crate::model::Changelog;
use crate::sink::postgres::schema::catalog::ColumnLimits;
use crate::sink::postgres::schema::wire_format::{
    POSTGRES_EPOCH_DAYS, POSTGRES_EPOCH_MICROS, Wire, WireCells, WireValues,
};
use crate::sink::postgres::target::column::TargetColumn;
use crate::sink::postgres::target::landing::limited_columns;
use crate::sink::postgres::target::rows::EncodedRows;
use crate::sink::postgres::target::table::TargetTable;
use crate::sink::{PreflightLevel, SinkError};

/// Days from 2000 to the first day that Postgres knows, 4713-11-24 BC, and to the one after its last.
const DAYS: std::ops::Range<i64> = -2_451_545..2_145_031_949;
/// Microseconds from 2000 to the first and after the last moment that Postgres knows.
const MICROS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// The first refused cell of each row that has one.
pub(crate) fn misfits(rows: &EncodedRows<'_>) -> Vec<RowRefusal> {
    let of_column = |(cells, column)| column_misfits(rows.target(), column, cells);
    first_of_each_row(rows.columns().flat_map(of_column).collect())
}

/// The same of rows that are not encoded yet: only columns that can refuse a value are looked at.
pub(crate) fn landing_misfits(
    changelog: &Changelog,
    target: &TargetTable,
) -> Result<Vec<RowRefusal>, SinkError> {
    let mut refusals = Vec::new();
    for (at, array) in limited_columns(changelog, target)? {
        let column = &target.columns[at];
        let cells = target.cells(column, &array)?;
        refusals.extend(column_misfits(target, column, &cells));
    }
    Ok(first_of_each_row(refusals))
}

fn column_misfits(
    target: &TargetTable,
    column: &TargetColumn,
    cells: &WireCells,
) -> Vec<RowRefusal> {
    let refusal = |(row, message)| RowRefusal {
        row,
        error: target.misfit(column, Some(row), message),
        found_by: PreflightLevel::Checks,
    };
    refused(cells, column.limits).into_iter().map(refusal).collect()
}

fn first_of_each_row(mut refusals: Vec<RowRefusal>) -> Vec<RowRefusal> {
    refusals.sort_by_key(|refusal| refusal.row);
    refusals.dedup_by_key(|refusal| refusal.row);
    refusals
}

/// Refused rows of one column, each with a sentence that ends with the SQLSTATE.
fn refused(cells: &WireCells, limits: ColumnLimits) -> Vec<(usize, String)> {
    let rows = 0..cells.len();
    let check = |refuse: &dyn Fn(usize) -> Option<String>| {
        let there = rows.clone().filter(|row| !cells.is_null(*row));
        there.filter_map(|row| Some((row, refuse(row)?))).collect::<Vec<_>>()
    };
    let mut found = match cells.values() {
        WireValues::Text(array) => texts(array, limits),
        WireValues::Decimal(array, scale) if cells.wire() == Wire::Numeric => {
            digits(array, i32::from(*scale), limits)
        }
        WireValues::Int(_) if cells.wire() == Wire::Int8 => Vec::new(),
        WireValues::Int(_) | WireValues::Decimal(..) => check(&|row| cells.out_of_range(row)),
        WireValues::Date(array) => check(&|row| {
            let day = i64::from(array.value(row)) - i64::from(POSTGRES_EPOCH_DAYS);
            (!DAYS.contains(&day)).then(|| "date out of range (22008)".to_owned())
        }),
        WireValues::Timestamp(array) => check(&|row| {
            let micros = array.value(row).checked_sub(POSTGRES_EPOCH_MICROS);
            let fits = micros.is_some_and(|micros| MICROS.contains(&micros));
            (!fits).then(|| "timestamp out of range (22008)".to_owned())
        }),
        WireValues::Bool(_) | WireValues::Float(_) | WireValues::Binary(_) => Vec::new(),
    };
    if limits.is_required && cells.null_count() > 0 {
        let nulls = rows.filter(|row| cells.is_null(*row));
        found.extend(nulls.map(|row| (row, "NULL in a NOT NULL column (23502)".to_owned())));
    }
    found
}

fn texts(array: &StringArray, limits: ColumnLimits) -> Vec<(usize, String)> {
    // All texts are one buffer: most often one look at it is enough.
    let has_nul = array.value_data().contains(&0);
    let longest = limits.characters.unwrap_or(usize::MAX);
    let is_long = array.offsets().lengths().any(|bytes| bytes > longest);
    if !has_nul && !is_long {
        return Vec::new();
    }
    let refuse = |text: &str| {
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            return Some(format!(
                "a NUL character at byte {at}, which Postgres can't store (22021)"
            ));
        }
        // Postgres cuts blanks at the end off without a word; only in CHAR(n) they are no part of the value.
        let rest = text.char_indices().nth(longest).map(|(at, _)| &text[at..])?;
        let is_lost = !limits.ignores_blanks || rest.bytes().any(|byte| byte != b' ');
        is_lost.then(|| {
            format!(
                "a text of {} characters is too long for {longest} (22001)",
                text.chars().count()
            )
        })
    };
    let rows = array.iter().enumerate();
    rows.filter_map(|(row, text)| Some((row, refuse(text?)?))).collect()
}

fn digits(array: &Decimal128Array, scale: i32, limits: ColumnLimits) -> Vec<(usize, String)> {
    let Some((precision, target_scale)) = limits.digits else { return Vec::new() };
    let Ok(whole) = u32::try_from(precision - target_scale + scale) else { return Vec::new() };
    let Some(limit) = 10i128.checked_pow(whole) else { return Vec::new() };
    let message =
        format!("the number is too large for numeric({precision},{target_scale}) (22003)");
    let is_large =
        |value: Option<i128>| value.is_some_and(|v| v.unsigned_abs() >= limit.unsigned_abs());
    let rows = array.iter().enumerate().filter(|(_, value)| is_large(*value));
    rows.map(|(row, _)| (row, message.clone())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Int64Array, TimestampMicrosecondArray};

    use super::*;

    fn rows_of(array: ArrayRef, wire: Wire, limits: ColumnLimits) -> Vec<usize> {
        refused(&WireCells::new(&array, wire).unwrap(), limits)
            .into_iter()
            .map(|(row, _)| row)
            .collect()
    }

    #[test]
    fn only_what_does_not_fit_is_refused() {
        let limits = |characters| ColumnLimits { characters, ..ColumnLimits::default() };
        let padded = ColumnLimits { ignores_blanks: true, ..limits(Some(3)) };
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some("abc"),
            None,
            Some("äöü"),
            Some("abcd"),
            Some("ab  "),
            Some("a\0"),
        ]));
        assert_eq!(rows_of(Arc::clone(&texts), Wire::Text, limits(Some(3))), [3, 4, 5]);
        assert_eq!(rows_of(Arc::clone(&texts), Wire::Text, padded), [3, 5]);
        assert_eq!(rows_of(Arc::clone(&texts), Wire::Text, limits(None)), [5]);
        let required = ColumnLimits { is_required: true, ..ColumnLimits::default() };
        assert_eq!(rows_of(texts, Wire::Text, required), [5, 1]);

        let digits = |digits| ColumnLimits { digits: Some(digits), ..ColumnLimits::default() };
        let numbers = Decimal128Array::from(vec![99_999, -100_000, 0]);
        let numbers: ArrayRef = Arc::new(numbers.with_precision_and_scale(15, 2).unwrap());
        assert_eq!(rows_of(Arc::clone(&numbers), Wire::Numeric, digits((5, 2))), [1]);
        assert_eq!(rows_of(Arc::clone(&numbers), Wire::Numeric, digits((38, 2))), [0; 0]);
        assert_eq!(rows_of(numbers, Wire::Numeric, ColumnLimits::default()), [0; 0]);

        let whole: ArrayRef = Arc::new(Int64Array::from(vec![Some(1 << 20), None, Some(-40_000)]));
        assert_eq!(rows_of(Arc::clone(&whole), Wire::Int2, ColumnLimits::default()), [0, 2]);
        assert_eq!(rows_of(whole, Wire::Int8, ColumnLimits::default()), [0; 0]);

        let days: ArrayRef = Arc::new(Date32Array::from(vec![-2_440_588, -2_440_589, 0, i32::MAX]));
        assert_eq!(rows_of(days, Wire::Date, ColumnLimits::default()), [1, 3]);
        let times: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![i64::MIN, 0, i64::MAX]));
        // The highest Arrow time is in the year 294247, and Postgres knows 29 years more.
        assert_eq!(rows_of(times, Wire::Timestamp, ColumnLimits::default()), [0]);
    }
}
