//! What to generate, and when to end.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use url::Url;

use super::mix::{Bursts, OperationMix, TableMix};
use super::rate::Rate;

/// What to generate.
#[derive(Debug, Clone)]
pub struct Config {
    pub seed: u64,
    pub rate: Rate,
    /// Events beside those of the rate.
    pub bursts: Option<Bursts>,
    pub tables: TableMix,
    /// Operations on all tables but the audit log; `None`: each table has a mix of its own.
    pub operations: Option<OperationMix>,
    /// Ends after this many messages (tombstones are messages); `None`: does not end by itself.
    pub events: Option<u64>,
    /// Ends after this time.
    pub duration: Option<Duration>,
    /// The metrics page of a processor: nothing is published while it says that it can't follow.
    pub heed: Option<Url>,
    /// Orders of before the run, an hour to four weeks old and with one item each, which the snapshot at the beginning
    /// has after the customers and products.
    pub history: u64,
    /// Share of updates and deletes of orders and items that hit rows of the history.
    pub old_rows: f64,
    /// Messages that are published to another topic, `neighbours/orders`, per event and at the same time: if
    /// some queue wants them, the ids of ours have gaps.
    pub neighbours: f64,
    /// Appends each published payload to this file, one a line.
    pub record: Option<PathBuf>,
    /// Share of changes that are faulty, 0 to 1: malformed JSON, broken XML, an undeclared column.
    pub faults: f64,
    /// Share of orders whose date is 10 s to 4 min in the past.
    pub late: f64,
    /// Share of orders whose date is less than 10 s in the past.
    pub out_of_order: f64,
    /// Share of orders whose date is 2099-01-01.
    pub misdated: f64,
    /// Puts the schema section into every envelope.
    pub with_schema: bool,
    /// Also writes ORDER_DETAILS of orders and ADDRESSES of customers.
    pub documents: bool,
    /// Writes Debezium's "unavailable value" where XML did not change.
    pub unchanged_lobs: bool,
    /// The XML of an order has one item up to so many.
    pub xml_items: u32,
    /// What SCNs begin with; `None`: the microsecond of the first event, so that those of a later run are higher.
    pub first_scn: Option<u64>,
    /// A clock that starts here and moves by the rate; `None`: the wall clock.
    pub start_time: Option<DateTime<Utc>>,
    /// The rate by which that clock moves, if it is another than that of publishing.
    pub clock_rate: Option<Rate>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            rate: Rate::PerSecond(5_000.0 / 60.0),
            bursts: None,
            tables: TableMix::default(),
            operations: None,
            events: None,
            duration: None,
            heed: None,
            history: 0,
            old_rows: 0.0,
            neighbours: 0.0,
            record: None,
            faults: 0.0,
            late: 0.02,
            out_of_order: 0.03,
            misdated: 0.0,
            xml_items: 3,
            with_schema: false,
            documents: false,
            unchanged_lobs: false,
            first_scn: None,
            start_time: None,
            clock_rate: None,
        }
    }
}
