//! SQL functions of our own.

pub(crate) mod watermark;
pub(crate) mod xml_rows;
