//! One session: from the ledger to shutdown, the end of the source, or a reason to start over from the ledger.
//!
//! `start` brings it up from the ledger, `batch` collects, `session_loop` processes, `committer` writes and
//! acknowledges. It ends at
//! shutdown, at the end of a file, when the SQL was edited, when events have shown a column that a file waits for
//! or a new table, when a target that a file waits for fits again, when a query fails or the target refuses rows,
//! or when another processor has committed in the meantime.

mod batch;
pub(super) mod carry_over;
mod commit_report;
mod committer;
pub(super) mod end;
pub(super) mod inputs;
pub(super) mod last_files;
pub(super) mod resume;
pub(super) mod running;
mod session_loop;
mod start;

#[cfg(test)]
mod tests;
