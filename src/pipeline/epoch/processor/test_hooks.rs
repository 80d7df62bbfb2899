//! What tests do to a processor.

use std::collections::BTreeSet;

use bytesize::ByteSize;

use super::Processor;
use crate::model::Upkeep;

impl Processor {
    /// The disk has the state, if all epochs are committed.
    pub(crate) fn flush_all(&mut self) {
        if self.epochs.are_committed() {
            self.flush().expect("all is committed");
            self.finish_flush(true).expect("the disk takes rows");
        }
    }

    /// Everything leaves memory that can.
    pub(crate) fn evict_all(&mut self) {
        self.flush_all();
        self.stores.set_memory_limit(ByteSize(0));
        self.stores.evict_now(Upkeep::default()).expect("rows can be taken out");
        self.transforms.let_go(usize::MAX).expect("groups can be taken out");
        self.stores.set_memory_limit(ByteSize::tib(1));
    }

    /// The results that went on from the disk at the start.
    pub(crate) fn followed(&self) -> BTreeSet<&str> {
        self.transforms.followed().collect()
    }

    pub(crate) fn limit_memory(&mut self, limit: ByteSize) {
        self.stores.set_memory_limit(limit);
    }
}
