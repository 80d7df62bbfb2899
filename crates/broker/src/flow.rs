//! One consumer flow: its ids, its window and the messages it holds.
//!
//! ```text
//! sent ──transport ack──> received by the library    (frees the window)
//! sent ──application ack─> settled                   (leaves the queue)
//! ```

use std::collections::VecDeque;

use super::queue::Entry;

/// Which ids a flow shows to its client. They have to rise, or the client drops messages silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireIds {
    /// The spool's: right while a flow never gets an older message after a newer one; then it
    /// changes to private ids. The client recognizes spool ids again after a reconnect.
    Spool,
    /// The flow's own, rising in the order of sending.
    Private { next: u64 },
}

/// Settled messages remembered as holes before the list is packed.
const MAX_HOLES: usize = 1024;

#[derive(Debug)]
struct Held {
    wire_id: u64,
    entry: Option<Entry>,
}

#[derive(Debug)]
pub(crate) struct ConsumerFlow {
    pub(crate) queue: u32,
    ids: WireIds,
    last_sent: u64,
    window: u32,
    max_unacked: usize,
    /// Sent, not yet covered by a transport acknowledgement.
    in_transit: VecDeque<u64>,
    /// Wire ids ascending; settled ones stay as holes for a while.
    unacked: VecDeque<Held>,
    held: usize,
    /// Wants to hear when it becomes the active flow of an exclusive queue.
    pub(crate) wants_changes: bool,
    /// It only looks: the message that it saw last. It holds nothing, and its acknowledgements settle nothing.
    pub(crate) browsed: Option<u64>,
}

/// The ids one delivery goes out with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) wire_id: u64,
    pub(crate) previous_id: u64,
    pub(crate) has_private_id: bool,
}

impl ConsumerFlow {
    pub(crate) fn new(queue: u32, ids: WireIds, window: u32, max_unacked: usize) -> Self {
        Self {
            queue,
            ids,
            last_sent: 0,
            window,
            max_unacked,
            in_transit: VecDeque::new(),
            unacked: VecDeque::new(),
            held: 0,
            wants_changes: false,
            browsed: None,
        }
    }

    /// A flow that looks at the messages of a queue and leaves them there.
    pub(crate) fn browser(self) -> Self {
        Self { browsed: Some(0), ..self }
    }

    /// How many more messages may be sent now.
    pub(crate) fn room(&self) -> usize {
        let window = (self.window as usize).saturating_sub(self.in_transit.len());
        window.min(self.max_unacked.saturating_sub(self.held))
    }

    pub(crate) fn send(&mut self, entry: Entry) -> Sent {
        if self.ids == WireIds::Spool && entry.id <= self.last_sent {
            self.ids = WireIds::Private { next: self.last_sent + 1 };
        }
        let (wire_id, has_private_id) = match &mut self.ids {
            WireIds::Spool => (entry.id, false),
            WireIds::Private { next } => {
                *next += 1;
                (*next - 1, true)
            }
        };
        let previous_id = std::mem::replace(&mut self.last_sent, wire_id);
        self.in_transit.push_back(wire_id);
        match &mut self.browsed {
            Some(browsed) => *browsed = entry.id,
            None => {
                self.unacked.push_back(Held { wire_id, entry: Some(entry) });
                self.held += 1;
            }
        }
        Sent { wire_id, previous_id, has_private_id }
    }

    /// The client's library has everything up to `received` and will take `window` more.
    pub(crate) fn transport_ack(&mut self, received: Option<u64>, window: Option<u32>) {
        if let Some(received) = received {
            while self.in_transit.front().is_some_and(|id| *id <= received) {
                self.in_transit.pop_front();
            }
        }
        if let Some(window) = window {
            self.window = window;
        }
    }

    /// Takes the held messages with wire ids in the range, oldest first. Ranges span ids of other
    /// flows and repeat; only what this flow holds counts.
    pub(crate) fn take_range(&mut self, first: u64, last: u64) -> Vec<Entry> {
        let start = self.unacked.partition_point(|held| held.wire_id < first);
        let in_range = self.unacked.range_mut(start..).take_while(|held| held.wire_id <= last);
        let taken: Vec<Entry> = in_range.filter_map(|held| held.entry.take()).collect();
        self.held -= taken.len();
        while self.unacked.front().is_some_and(|held| held.entry.is_none()) {
            self.unacked.pop_front();
        }
        if self.unacked.len() > 2 * self.held + MAX_HOLES {
            self.unacked.retain(|held| held.entry.is_some());
        }
        taken
    }

    /// Everything the flow holds, for a flow that ends.
    pub(crate) fn take_all(&mut self) -> Vec<Entry> {
        self.held = 0;
        std::mem::take(&mut self.unacked).into_iter().filter_map(|held| held.entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64) -> Entry {
        Entry { id, lane: 0, is_recovered: false, deliveries: 1 }
    }

    fn ids(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn an_ack_range_touches_only_messages_of_its_flow() {
        let mut flow = ConsumerFlow::new(1, WireIds::Spool, 255, 100);
        for id in [4, 7, 9] {
            flow.send(entry(id));
        }
        assert_eq!(ids(&flow.take_range(0, 7)), [4, 7]);
        assert_eq!(ids(&flow.take_range(0, 7)), [0_u64; 0]);
        assert_eq!(ids(&flow.take_range(8, u64::MAX)), [9]);
        assert_eq!(ids(&flow.take_range(9, 3)), [0_u64; 0]);
    }

    #[test]
    fn private_ids_go_on_above_the_last_received_one() {
        let mut flow = ConsumerFlow::new(1, WireIds::Private { next: 701 }, 255, 100);
        let sent = [flow.send(entry(40)), flow.send(entry(3))];
        assert_eq!(sent.map(|sent| (sent.wire_id, sent.previous_id)), [(701, 0), (702, 701)]);
        assert!(ids(&flow.take_range(0, 700)).is_empty());
        assert_eq!(ids(&flow.take_range(702, 702)), [3]);
    }

    #[test]
    fn an_older_message_after_a_newer_one_goes_out_under_a_higher_id() {
        let mut flow = ConsumerFlow::new(1, WireIds::Spool, 255, 100);
        let sent = [40, 50, 40, 60].map(|id| flow.send(entry(id)).wire_id);
        assert_eq!(sent, [40, 50, 51, 52]);
    }

    #[test]
    fn a_browser_holds_nothing_and_settles_nothing() {
        let mut flow = ConsumerFlow::new(1, WireIds::Spool, 2, 5).browser();
        flow.send(entry(4));
        flow.send(entry(7));
        assert_eq!((flow.browsed, flow.room()), (Some(7), 0));
        flow.transport_ack(Some(7), None);
        assert_eq!(flow.room(), 2);
        assert!(flow.take_range(0, u64::MAX).is_empty() && flow.take_all().is_empty());
    }

    #[test]
    fn the_window_and_the_unacked_limit_both_hold_a_flow_back() {
        let mut flow = ConsumerFlow::new(1, WireIds::Spool, 2, 3);
        flow.send(entry(1));
        flow.send(entry(2));
        assert_eq!(flow.room(), 0);
        flow.transport_ack(Some(2), None);
        assert_eq!(flow.room(), 1);
        flow.take_range(1, 2);
        assert_eq!(flow.room(), 2);
        flow.transport_ack(None, Some(0));
        assert_eq!(flow.room(), 0);
    }
}
