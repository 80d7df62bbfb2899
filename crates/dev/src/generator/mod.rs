//! Load for the demo, the tests and the benches: Debezium events of a small shop, to a broker or a file.
//!
//! Deterministic given the seed, but for the wall clock; with a start time, to the byte.
//! It is not a model of Oracle: one change is one transaction, and rows are as random as the tests need.

mod config;
mod envelope;
mod event;
mod mix;
mod ndjson;
mod publish;
mod rate;
mod row;
mod shop;

#[cfg(test)]
mod tests;

pub use config::Config;
pub use event::{Event, Fault, Operation};
pub use mix::{Bursts, MixError, OperationMix, TableMix};
pub use ndjson::write_ndjson;
pub use publish::{Published, publish};
pub use rate::{Rate, RateError};
pub use row::SalesTable;

use std::io;
use std::path::PathBuf;

use chrono::Utc;

use shop::Shop;
use tidemark_solace::PublishError;

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
