//! What the landing tables hold, read back as changelogs.

pub(super) mod changes;
pub(super) mod committed;
pub(super) mod history;
pub(super) mod snapshot;
