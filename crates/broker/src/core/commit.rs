//! What happens once a batch is on disk: queues get their messages, publishers their answers.

use std::collections::BTreeSet;

use super::completion::{Completion, OpenPublisher};
use super::{Core, PublishEvent};
use crate::SpoolError;
use crate::codec::assured::{Message, kind, par};
use crate::codec::frame::Response;
use crate::spool::{Batch, Spooled};

/// One round of the writer thread.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) batch: Batch,
    completions: Vec<Completion>,
}

impl Core {
    /// Takes all that waits for the disk; the next round may begin after [`Core::commit`].
    pub(crate) fn take_round(&mut self) -> Round {
        Round { batch: self.spool.take_batch(), completions: std::mem::take(&mut self.completions) }
    }

    /// Publishes the results of a round that is on disk.
    pub(crate) fn commit(&mut self, round: Round) -> Result<(), SpoolError> {
        self.spool.batch_done(&round.batch);
        let mut touched = BTreeSet::new();
        for completion in round.completions {
            self.complete(completion, &mut touched);
        }
        for queue in touched {
            self.wake_consumers(queue);
        }
        self.spool.reclaim_step()
    }

    fn complete(&mut self, completion: Completion, touched: &mut BTreeSet<u32>) {
        match completion {
            Completion::Taken { name, message_id, spooled } => {
                if let Some(spooled) = spooled {
                    self.enqueue(spooled, touched);
                }
                self.finish_publish(&name, message_id);
                self.tell_publisher(&name, |flow| PublishEvent::Acked { flow, up_to: message_id });
            }
            Completion::Refused { name, message_id, response } => {
                self.counters.refused += 1;
                self.finish_publish(&name, message_id);
                self.tell_publisher(&name, |flow| PublishEvent::Refused {
                    flow,
                    message_id,
                    response,
                });
            }
            Completion::Spooled { spooled } => self.enqueue(spooled, touched),
            Completion::Answer { connection, frame } => self.answer(connection, &frame),
            Completion::Opened { connection, flow, name, open } => {
                self.answer_open(connection, flow, &name, &open);
            }
        }
    }

    fn enqueue(&mut self, Spooled { id, hash }: Spooled, touched: &mut BTreeSet<u32>) {
        self.counters.stored += 1;
        let queues: Vec<u32> = self.spool.queues_of(id).to_vec();
        for queue in queues {
            match self.queues.get_mut(&queue) {
                Some(known) => {
                    known.push(id, hash, false);
                    touched.insert(queue);
                }
                // Deleted while the message was on its way to disk.
                None => {
                    self.spool.release(queue, id);
                }
            }
        }
    }

    fn finish_publish(&mut self, name: &str, message_id: u64) {
        if let Some(publisher) = self.publishers.get_mut(name) {
            publisher.last_done = publisher.last_done.max(message_id);
        }
    }

    fn answer_open(&mut self, connection: u64, flow: u32, name: &str, open: &OpenPublisher) {
        let is_connected = self.connections.contains_key(&connection);
        let Some(publisher) = self.publishers.get_mut(name) else { return };
        publisher.last_done = publisher.last_done.max(open.last_acked);
        if !is_connected {
            return;
        }
        // Only from here on: acknowledgements for an earlier connection must not overtake the answer.
        publisher.open_on = Some((connection, flow));
        let last_done = publisher.last_done;
        let mut frame = Vec::new();
        Message::new(open.version, kind::OPEN_PUBLISHER)
            .u32(par::FLOW_ID, flow)
            .u64(par::LAST_ACKED, last_done)
            .window(open.window)
            .text(par::FLOW_NAME, name)
            .u32(par::PUBLISHER_ID, flow)
            .put(&mut frame, open.tag, Some(Response::OK));
        self.answer(connection, &frame);
    }
}
