//! Load for the demo, the tests and the benches: Debezium events of a small shop, to a broker or a file.
//!
//! Deterministic given the seed, but for the wall clock; with a start time, to the byte.
//! It is not a model of Oracle: one change is one transaction, and rows are as random as the tests need.

mod documents;
mod envelope;
mod heed;
mod live;
mod ndjson;
mod publish;
mod rate;
mod row;
mod shipping;
mod shop;

#[cfg(test)]
mod tests;

pub use ndjson::write_ndjson;
pub use publish::{Published, publish};
pub use rate::{Rate, RateError};
pub use row::SalesTable;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use url::Url;

use crate::model::Operation;
use crate::source::solace::PublishError;
use shop::Shop;

/// What to generate.
#[derive(Debug, Clone)]
pub struct Config {
    pub seed: u64,
    pub rate: Rate,
    /// Ends after this many messages (tombstones are messages); `None`: does not end by itself.
    pub events: Option<u64>,
    /// Ends after this time.
    pub duration: Option<Duration>,
    /// The metrics page of a processor: nothing is published while it says that it can't follow.
    pub heed: Option<Url>,
    /// Share of changes that are faulty, 0 to 1: malformed JSON, broken XML, a column nobody declared.
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
            events: None,
            duration: None,
            heed: None,
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

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub topic: String,
    /// Messages of one key must stay in order: the order for orders and their items, else the row.
    pub key: String,
    /// Empty for a tombstone.
    pub payload: Bytes,
    pub table: SalesTable,
    pub operation: Operation,
    /// What is wrong with it on purpose.
    pub fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    MalformedJson,
    BrokenXml,
    /// Not an error: a column that the table got later.
    ExtraColumn,
}

#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    #[error("events cannot be published")]
    Publish(#[from] PublishError),
    #[error("{} cannot be written", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The endless stream of events, ended by [`Config::events`] alone.
pub struct Generator {
    shop: Shop,
    clock: Clock,
    left: Option<u64>,
}

enum Clock {
    Wall,
    Simulated { now_us: i64, step_us: i64 },
}

impl Clock {
    fn tick(&mut self) -> i64 {
        match self {
            Self::Wall => Utc::now().timestamp_micros(),
            Self::Simulated { now_us, step_us } => {
                *now_us += *step_us;
                *now_us
            }
        }
    }
}

impl Generator {
    pub fn new(config: &Config) -> Self {
        let clock = match config.start_time {
            Some(start) => {
                let step_us = config.clock_rate.unwrap_or(config.rate).step_us();
                Clock::Simulated { now_us: start.timestamp_micros() - step_us, step_us }
            }
            None => Clock::Wall,
        };
        Self { shop: Shop::new(config), clock, left: config.events }
    }
}

impl Iterator for Generator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        Some(self.shop.next_event(self.clock.tick()))
    }
}
