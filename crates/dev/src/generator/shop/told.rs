//! Changes that have become events and wait to be published.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::generator::config::Config;
use crate::generator::envelope::{Change, EnvelopeWriter, topic};
use crate::generator::event::{Event, Fault, Operation};
use crate::generator::row::{Row, SalesTable};

/// The events of one change or a few, and what they say about time and transaction.
pub(super) struct Told {
    writer: EnvelopeWriter,
    /// By the time of the first event, unless it is given.
    first_scn: Option<u64>,
    pub(super) transaction: u64,
    pub(super) now_us: i64,
    pub(super) waiting: VecDeque<Event>,
}

impl Told {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            writer: EnvelopeWriter::new(config.with_schema, config.documents),
            first_scn: config.first_scn,
            transaction: 0,
            now_us: 0,
            waiting: VecDeque::new(),
        }
    }

    /// The delete and its tombstone.
    pub(super) fn tell_delete<R: Row>(&mut self, partition: u64, row: &R) {
        self.tell(Operation::Delete, partition, Some(row), None, None);
        if let Some(delete) = self.waiting.back().cloned() {
            self.waiting.push_back(Event { payload: Bytes::new(), ..delete });
        }
    }

    pub(super) fn tell<R: Row>(
        &mut self,
        operation: Operation,
        partition: u64,
        before: Option<&R>,
        after: Option<&R>,
        fault: Option<Fault>,
    ) {
        let (at_us, transaction) = (self.now_us, self.transaction);
        let first_scn = *self.first_scn.get_or_insert(at_us.unsigned_abs());
        let scn = first_scn + transaction;
        let change = Change { before, after, operation, at_us, transaction, scn };
        let prefix = match R::TABLE {
            SalesTable::Orders | SalesTable::OrderItems => "order",
            SalesTable::Customers => "customer",
            SalesTable::Products => "product",
            SalesTable::AuditLog => "audit",
        };
        self.waiting.push_back(Event {
            topic: topic(R::TABLE, operation),
            key: format!("{prefix}-{partition}"),
            payload: self.writer.write(&change),
            table: R::TABLE,
            operation,
            fault,
        });
    }
}
