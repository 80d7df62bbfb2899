//! Whether the columns of a `-- key:` line are a key of their query, as far as its plan proves it.
//!
//! From the tables up, each node of the plan is asked which of its columns can't be NULL, which determine others, and
//! which sets of them no two of its rows share. What is proven holds for all data; what is not proven may hold as well.

mod dependencies;
mod expressions;
mod facts;
mod joins;
mod known_tables;
mod nodes;

#[cfg(test)]
mod tests;

use datafusion::logical_expr::LogicalPlan;

pub(crate) use known_tables::KnownTables;

use crate::transform::views::KeyProof;
use nodes::facts;

/// What the plan proves of some of its columns as a key.
pub(crate) fn prove(plan: &LogicalPlan, key: &[usize], known: KnownTables<'_>) -> KeyProof {
    let facts = facts(plan, known);
    let nullable = key.iter().filter(|at| !facts.not_null.contains(at)).copied();
    KeyProof { is_unique: facts.is_unique(key), nullable: nullable.collect() }
}
