//! Where a source table lands, and the columns of its landing table besides the declared ones.

use crate::model::{Landing, Table};

pub(crate) use crate::model::landing_columns::{
    ALL, CHANGE_SEQ, EVENT_ID, EXTRA_FIELDS, MAX_NAME, OPERATION, SOURCE_SCN, SOURCE_TS,
    UNAVAILABLE,
};

/// The landing table's name; `None` for a table that lands nowhere.
pub(crate) fn target_name(table: &Table) -> Option<&str> {
    match &table.options.landing {
        Landing::History(name) => Some(name),
        Landing::None => None,
    }
}
