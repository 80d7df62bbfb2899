//! What a session writes next: taken under the lock, encoded and sent outside of it.

use super::Core;
use crate::codec::message::Delivery;
use crate::partition::FlowKey;
use crate::spool::Location;

/// Bytes of message records that one round of a session takes. More than a window of ordinary
/// messages, so a window goes out in one system call.
const ROUND_BYTES: usize = 512 * 1024;

/// One message on its way out.
#[derive(Debug)]
pub(crate) struct PlannedDelivery {
    pub(crate) delivery: Delivery,
    pub(crate) location: Location,
}

/// One round of output. Buffers go to and fro, so they are allocated once.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    pub(crate) deliveries: Vec<PlannedDelivery>,
}

impl Core {
    /// Moves into `output` what the connection has to send. False if the connection is gone.
    pub(crate) fn take_output(&mut self, connection: u64, output: &mut Output) -> bool {
        let Some(known) = self.connections.get_mut(&connection) else { return false };
        output.bytes.append(&mut known.outbox);
        for event in known.publish_events.drain(..) {
            let open = known.publishers.get(&event.flow());
            event.put(&mut output.bytes, open.map_or(u32::from(u8::MAX), |open| open.window));
        }
        output.bytes.append(&mut known.direct);
        self.plan_deliveries(connection, &mut output.deliveries);
        true
    }

    fn plan_deliveries(&mut self, connection: u64, plan: &mut Vec<PlannedDelivery>) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let mut planned_bytes = 0;
        for (&flow_id, flow) in &mut known.flows {
            let Some(queue) = self.queues.get_mut(&flow.queue) else { continue };
            let key = FlowKey { connection, flow: flow_id };
            for _ in 0..flow.room() {
                if planned_bytes >= ROUND_BYTES {
                    return;
                }
                let next = match flow.browsed {
                    Some(after) => queue.browse(after),
                    None => queue.take(key),
                };
                let Some(entry) = next else { break };
                let Some(location) = self.spool.locate(entry.id) else { continue };
                planned_bytes += location.length as usize;
                let sent = flow.send(entry);
                let delivery = Delivery {
                    flow_id,
                    wire_id: sent.wire_id,
                    previous_id: sent.previous_id,
                    spool_id: sent.has_private_id.then_some(entry.id),
                    redelivered: entry.redelivered(),
                };
                plan.push(PlannedDelivery { delivery, location });
                self.counters.delivered += 1;
            }
        }
    }
}
