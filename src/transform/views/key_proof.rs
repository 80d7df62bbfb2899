//! What the plan of a query proves of the key of its result.

/// What is not proven may hold as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyProof {
    /// No two rows have the same key.
    pub(crate) is_unique: bool,
    /// Key columns that can be NULL, by their positions in the result.
    pub(crate) nullable: Vec<usize>,
}
