//! From the SQL folder to maintained views: order, types, keys, and the tree of operators of each query.

mod channel;
mod key_proof;
mod oracle_forms;
mod parsed;
mod pass;
mod plan;
mod query;
mod request;
mod session;
mod temporal_join;
mod undeclared;
mod xml_table;

pub use request::{PlanRequest, UndeclaredNames};
