//! A row that a target refuses, and why.

use crate::sink::{DataError, PreflightLevel};

/// A row that is refused.
pub(crate) struct RowRefusal {
    pub(crate) row: usize,
    pub(crate) error: DataError,
    /// [`PreflightLevel::Trial`]: it failed alone. Else nothing that the transaction writes can help it.
    pub(crate) found_by: PreflightLevel,
}
