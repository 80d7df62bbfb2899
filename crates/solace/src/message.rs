//! A message of the queue, as the source hands it out.

use bytes::Bytes;

use super::Offset;

/// One message of the queue, as the source hands it out.
#[derive(Debug, Clone)]
pub struct Message {
    pub offset: Offset,
    /// What the source needs to acknowledge this message.
    pub receipt: Receipt,
    pub topic: String,
    /// Empty for a tombstone.
    pub payload: Bytes,
    /// The broker has delivered it before; not a statement that anybody processed it.
    pub redelivered: bool,
    /// User properties in no particular order; numbers, booleans and bytes as text.
    pub properties: Vec<(String, String)>,
}

/// Names a delivered message to the source that delivered it; valid while that flow lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt {
    /// Which flow delivered it: a receipt of an older flow acknowledges nothing.
    pub flow: u32,
    /// The client library's id on that flow.
    pub id: u64,
}
