//! What SQL files make of the events, and where it goes.

mod key_changes;
mod keys;
mod lookup;
pub(crate) mod rest;
mod shipped_xml;
mod snapshots;
pub(crate) mod sql_edits;
mod stock_outs;
mod xml;
