//! Where a source table lands, and the columns of its landing table besides the declared ones.

use crate::model::landing_columns::PROCESSED_AT;
use crate::model::{Changelog, Landing, Operation, Table};
use crate::sink::postgres::client::quote;

pub(crate) use crate::model::landing_columns::{
    ALL, CHANGE_SEQ, EVENT_ID, EXTRA_FIELDS, MAX_NAME, OPERATION, SOURCE_SCN, SOURCE_TS,
    UNAVAILABLE,
};

/// The landing table's name; `None` for a table that lands nowhere.
pub(crate) fn target_name(table: &Table) -> Option<&str> {
    table.options.landing.target()
}

/// Whether the target has one row of each key.
pub(crate) fn is_current(table: &Table) -> bool {
    matches!(table.options.landing, Landing::Current(_))
}

/// Whether these are deletes from a table of current rows, which come apart from what is written there.
pub(crate) fn are_deletes(changelog: &Changelog) -> bool {
    is_current(&changelog.table) && changelog.operations.first() == Some(&Operation::Delete)
}

/// The columns that rows of a landing table are found by, and as an index has them. Current rows have a primary key.
pub(crate) fn indexed(table: &Table) -> Vec<(Vec<String>, String)> {
    let column = |at: &usize| table.columns[*at].name.clone();
    let keys: Vec<String> = table.key.iter().map(column).collect();
    let seq = table.free_name(CHANGE_SEQ);
    let list =
        format!("{}, {} DESC", quote::idents(keys.iter().map(String::as_str)), quote::ident(&seq));
    let mut indexed = Vec::new();
    if !is_current(table) {
        indexed.push((keys.into_iter().chain([seq]).collect(), list));
    }
    let reference = table.options.references.as_ref().map(|reference| column(&reference.column));
    let stamp = table.options.history.map(|_| table.free_name(PROCESSED_AT));
    indexed.extend(reference.into_iter().chain(stamp).map(|name| {
        let list = quote::ident(&name);
        (vec![name], list)
    }));
    indexed
}
