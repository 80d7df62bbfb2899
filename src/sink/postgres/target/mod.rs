//! Tables that take rows: checked against the catalog, encoded for the wire, written by statements or COPY.

pub(super) mod check_statement;
pub(super) mod column;
pub(super) mod current;
pub(super) mod landing;
pub(super) mod problem;
pub(super) mod result;
pub(super) mod row_write;
pub(super) mod rows;
pub(super) mod table;
pub(super) mod truncate;
