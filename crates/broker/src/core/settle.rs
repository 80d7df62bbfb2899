//! The end of a delivery: accepted, rejected, given back, or dead.

use tracing::warn;

use super::Core;
use super::completion::Completion;
use crate::codec::assured::Outcome;
use crate::queue::Entry;
use crate::spool::{SpoolError, Spooled};

impl Core {
    /// Settles messages that a flow held, in the order of the acknowledgement.
    pub(super) fn settle(&mut self, queue: u32, settled: Vec<(Outcome, Vec<Entry>)>) {
        let mut done = Vec::new();
        for (outcome, entries) in settled {
            match outcome {
                Outcome::Accepted => done.extend(entries),
                Outcome::Rejected => entries.into_iter().for_each(|entry| self.bury(queue, entry)),
                Outcome::Failed => {
                    entries.into_iter().for_each(|entry| self.give_back(queue, entry));
                    self.wake_consumers(queue);
                }
            }
        }
        self.remove_settled(queue, &done);
    }

    fn remove_settled(&mut self, queue: u32, entries: &[Entry]) {
        let Some(known) = self.queues.get_mut(&queue) else { return };
        let waits_for_hand_over = known.settings.partitions > 0 && !entries.is_empty();
        for entry in entries {
            known.settle(entry);
        }
        let mut ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
        ids.sort_unstable();
        let bytes = self.spool.ack(queue, &ids);
        known.used_bytes = known.used_bytes.saturating_sub(bytes);
        self.counters.settled += ids.len() as u64;
        if waits_for_hand_over {
            self.wake_consumers(queue);
        }
    }

    /// Puts a message back, unless it has come back too often.
    pub(super) fn give_back(&mut self, queue: u32, entry: Entry) {
        let Some(known) = self.queues.get_mut(&queue) else { return };
        if known.is_worn_out(&entry) {
            self.bury(queue, entry);
        } else {
            known.give_back(entry);
        }
    }

    /// Moves a message to the dead-message queue; without one, or if the sender did not allow
    /// that, the message is discarded as on the real broker.
    fn bury(&mut self, queue: u32, entry: Entry) {
        let Some(known) = self.queues.get(&queue) else { return };
        let name = known.settings.name.clone();
        let dead_queue = known.settings.dead_message_queue();
        let dead_queue = self.queue_names.get(dead_queue).copied().filter(|dead| *dead != queue);
        match dead_queue.map(|dead| self.copy_to(dead, &entry)) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => warn!(
                queue = %name, message = entry.id,
                "message discarded: its dead-message queue is over quota or its sender forbids it"
            ),
            Some(Err(error)) => {
                // The message stays where it is rather than being lost.
                tracing::error!(queue = %name, message = entry.id, %error, "dead message unreadable");
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.give_back(entry);
                }
                return;
            }
            None => warn!(
                queue = %name, message = entry.id,
                "message discarded after failing; create its dead-message queue to keep such ones"
            ),
        }
        self.remove_settled(queue, &[entry]);
    }

    /// Stores a copy with an id of its own, because ids of a queue have to rise. False if the
    /// queue may not take it.
    fn copy_to(&mut self, dead_queue: u32, entry: &Entry) -> Result<bool, SpoolError> {
        let Some(location) = self.spool.locate(entry.id) else { return Ok(false) };
        let bytes = location.read()?;
        let message = location.message(&bytes)?;
        let size = u64::from(message.content.size());
        if !message.content.is_dmq_eligible() || self.is_over_quota(dead_queue, size) {
            return Ok(false);
        }
        let hash = Some(message.hash);
        let spooled: Spooled =
            self.spool.append_message(hash, None, message.content, &[dead_queue]);
        if let Some(dead) = self.queues.get_mut(&dead_queue) {
            dead.used_bytes += size;
        }
        self.completions.push(Completion::Spooled { spooled });
        Ok(true)
    }
}
