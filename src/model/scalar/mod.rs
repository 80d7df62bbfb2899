//! One value of a declared column, and the Arrow columns that values are collected in.

mod column_builder;

pub use column_builder::{ColumnBuilder, Scalar};
