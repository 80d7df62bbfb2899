//! Whole processes against a real PostgreSQL and the development broker.
//!
//! Each test has servers of its own on free loopback ports, and ends them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

#[path = "../support/certificates.rs"]
mod certificates;
mod crash_matrix;
mod dialects;
mod dlq;
mod doctor;
mod end_to_end;
mod failing_query;
mod interop;
mod key_changes;
mod looking;
mod lookup;
mod new_columns;
mod oracle_types;
mod pooled;
#[path = "../support/pooler.rs"]
mod pooler;
mod queue_depth;
mod referee;
mod refused_requests;
mod refused_results;
mod refused_rows;
mod rest;
mod samples;
mod schema_drift;
mod shipped_xml;
mod shop;
mod snapshots;
mod solace_source;
mod special_events;
mod sql_edits;
mod stock_outs;
mod undeclared_columns;
mod unknown_tables;
mod whole_way;
mod widening;
mod xml;
