//! SQL files to maintained results.
//!
//! * `files` reads the user's folder: [`parse_tables`] for `sql/tables`, headers of `sql/transforms`.
//! * `planning` makes plans of the transforms ([`Transforms::plan`]): the place where a file becomes operators.
//! * `dataflow` has the operators, which turn changes into changes. A new one goes to `dataflow/operators`.
//! * `views` keeps each result up to date, and says how.
//! * `run` takes all results through an epoch ([`Transforms::run`]), `epoch` takes it back.
//!
//! It knows SQL and Arrow. It does not know where rows come from or where results go.

mod dataflow;
mod doubts;
mod durable;
mod epoch;
mod error;
mod files;
mod functions;
mod live_table;
mod pending;
mod planning;
mod run;
mod transforms;
mod views;

pub use doubts::KeyDoubt;
pub use error::TransformError;
pub use files::{SqlError, SqlFile, learned_columns, parse_tables, parse_type, read_folder};
pub use pending::PendingTransform;
pub use planning::{PlanRequest, UndeclaredNames};
pub use run::Redefined;
pub use transforms::Transforms;
pub use views::Maintenance;

#[cfg(test)]
mod tests;
