//! What target tables do to rows: what is refused at a start, and what is found when rows are written.

mod refused_at_start;
mod swallowed_rows;
