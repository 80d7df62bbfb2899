//! Results kept right from differences: a query as a tree of operators over weighted rows.
//!
//! Each operator turns the differences of what it reads into the difference of what it gives
//! ([`Operator::advance`]). None reads a whole table for that: a join looks up the partners of the rows
//! that changed ([`Operator::find`]), which goes down to the indexes of the state stores, and an
//! aggregate keeps one small state per group. Joins keep nothing at all. So the work of an epoch
//! follows the rows that changed, and memory follows the tables and the groups.
//!
//! Expressions are DataFusion's own physical expressions; the query comes from its optimiser. `compile`
//! makes the tree, once per SQL text. A new operator is a file in `operators` that begins with its formula,
//! and an arm in `compile`.

mod compile;
mod delta;
mod expression;
mod join_keys;
mod keyed_state;
mod multiset;
mod operator;
mod operator_state;
mod operators;
mod rows;

pub(crate) use compile::{CompileError, Readable, compile};
pub(crate) use delta::Delta;
pub(crate) use keyed_state::{KeyedState, StateValue};
pub(crate) use multiset::Multiset;
pub(crate) use operator::{
    EvalContext, IndexRequests, Operator, Results, Visit, WatermarkStep, each_state,
};
pub(crate) use operator_state::{EpochStep, OperatorState, UndoLog};
pub(crate) use operators::normalize::{Normalize, normalize};
pub(crate) use operators::source::KeyedResult;
pub(crate) use rows::{EncodedRow, batch, take_rows};
