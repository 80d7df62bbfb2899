//! Rows that a target refuses: found one by one, while all others are written.

pub(super) mod bisect;
pub(super) mod check_evaluation;
pub(super) mod messages;
pub(super) mod refusal;
pub(super) mod server_bisect;
pub(super) mod swaps;
pub(super) mod type_checks;
