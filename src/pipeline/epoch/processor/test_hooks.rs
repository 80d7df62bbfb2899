//! What tests do to a processor.

use std::time::Duration;

use bytesize::ByteSize;

use super::Processor;

impl Processor {
    pub(crate) fn flush_all(&mut self) {
        self.stores.flush_all(Duration::MAX).expect("the disk takes rows");
    }

    /// Everything leaves memory that can.
    pub(crate) fn evict_all(&mut self) {
        self.stores.set_memory_limit(ByteSize(0));
        self.stores.evict_now(0).expect("the disk takes rows");
        self.stores.set_memory_limit(ByteSize::tib(1));
    }

    pub(crate) fn limit_memory(&mut self, limit: ByteSize) {
        self.stores.set_memory_limit(limit);
    }
}
