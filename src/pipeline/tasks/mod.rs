//! What runs beside the loop, each in a task of its own.

pub(super) mod background;
pub(super) mod checkpoint_writer;
pub(super) mod dead_letter_publisher;
pub(super) mod landing_pruner;
pub(super) mod outbox_delivery;
pub(super) mod replay_watcher;
pub(super) mod sql_watcher;
pub(super) mod target_watcher;
