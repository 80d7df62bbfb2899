//! Whole processes against a real PostgreSQL and the development broker.
//!
//! Each test has servers of its own on free loopback ports, and ends them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

#[path = "../support/certificates.rs"]
mod certificates;
mod dead_letters;
mod end_to_end;
mod messages;
mod operations;
#[path = "../support/pooler.rs"]
mod pooler;
mod record;
mod referee;
mod results;
mod schema;
mod shop;
