//! Where a source table lands, and the columns of its landing table besides the declared ones.

use crate::model::{Landing, Table};

/// The columns of a landing table besides the declared ones; each by its [`Table::free_name`].
pub(crate) const OPERATION: &str = "operation";
pub(crate) const SOURCE_TS: &str = "source_ts";
pub(crate) const EXTRA_FIELDS: &str = "extra_fields";
pub(crate) const EVENT_ID: &str = "event_id";
/// The position: what "newest row per key" goes by.
pub(crate) const CHANGE_SEQ: &str = "change_seq";

/// The change's SCN: a snapshot row that was read before it is not applied. A table need not have it; after a
/// restart snapshot rows then count as they come.
pub(crate) const SOURCE_SCN: &str = "source_scn";

/// JSON array of the columns that a change did not carry because their LOBs were unchanged. A table need
/// not have it; its changes then land with the old values.
pub(crate) const UNAVAILABLE: &str = "unavailable_columns";

/// The landing table's name; `None` for a table that lands nowhere.
pub(crate) fn target_name(table: &Table) -> Option<&str> {
    match &table.options.landing {
        Landing::History(name) => Some(name),
        Landing::None => None,
    }
}
