//! From the SQL folder to maintained views: order, types, keys, and the tree of operators of each query.

mod channel;
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
