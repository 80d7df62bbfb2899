//! The operators, one file or folder each: a new one goes here, and `compile` gives it its queries.

pub(crate) mod aggregate;
pub(crate) mod arranged;
pub(crate) mod constant;
pub(crate) mod filter;
pub(crate) mod join;
pub(crate) mod normalize;
pub(crate) mod project;
pub(crate) mod source;
pub(crate) mod temporal_filter;
pub(crate) mod union;
