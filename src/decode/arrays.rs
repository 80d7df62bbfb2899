//! Messages that are a JSON array of events, as producers over HTTP batch them.
//!
//! Each event has its own position, and what is wrong with one of them costs only itself. Offsets are of
//! messages, so what holds an event back holds the whole array.

use super::debezium::{self, DebeziumEvent};
use super::decoder::Decoder;
use super::epoch_rows::EpochRows;
use super::refusal::EventRefusal;
use crate::model::{Generations, Message, Position};

/// Gives a message that was not taken before its place in the order of changes.
pub fn register(spools: &mut Generations, message: &Message) {
    if debezium::is_array(&message.payload) {
        spools.register_array(message.offset);
    } else {
        spools.register(message.offset);
    }
}

/// How many events a message is: one unless it is a JSON array.
pub fn event_count(message: &Message) -> usize {
    debezium::event_count(&message.payload)
}

/// An event of an array, by its number, which counts from 0.
struct Numbered<T> {
    number: usize,
    of: T,
}

impl Decoder {
    /// Takes in the events of an array. What comes back is what is wrong with some of them, or with all.
    pub(super) fn array<'a>(
        &mut self,
        message: &'a Message,
        position: Position,
        texts: &[&'a str],
        epoch: &mut EpochRows<'a>,
    ) -> Option<EventRefusal> {
        if let Some(refusal) = without_places(texts.len(), position) {
            return Some(refusal);
        }
        let (mut undeclared, mut known) = (Vec::new(), Vec::new());
        let mut refusals: Vec<Numbered<EventRefusal>> = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            match self.read(message, text) {
                Ok(of) if self.is_undeclared(&of) => undeclared.push(Numbered { number, of }),
                Ok(of) => known.push(Numbered { number, of }),
                Err(of) => refusals.push(Numbered { number, of }),
            }
        }
        let held = epoch.decoded.held.len();
        let mut take = |events: Vec<Numbered<DebeziumEvent<'a>>>, epoch: &mut EpochRows<'a>| {
            for Numbered { number, of } in events {
                let place = position.of_event(number).unwrap_or(position);
                if let Err(of) | Ok(Some(of)) = self.event(message, place, of, epoch) {
                    refusals.push(Numbered { number, of });
                }
            }
        };
        take(undeclared, epoch);
        if epoch.decoded.held.len() > held {
            // All of it comes again.
            return None;
        }
        take(known, epoch);
        refused(refusals, texts.len())
    }

    /// Whether it is a change of a table that no file declares.
    fn is_undeclared(&self, event: &DebeziumEvent<'_>) -> bool {
        match event {
            DebeziumEvent::Change(change) => matches!(self.table_of(change), Ok(None)),
            _ => false,
        }
    }
}

/// Why an array can't be taken in at all.
fn without_places(events: usize, position: Position) -> Option<EventRefusal> {
    let reason = if events == 0 {
        "it is a JSON array without events".to_owned()
    } else if events > Position::MAX_EVENTS {
        let most = Position::MAX_EVENTS;
        format!(
            "it is a JSON array of {events} events, and a message may have {most}: send smaller batches"
        )
    } else if position.of_event(events - 1).is_none() {
        format!(
            "it is a JSON array of {events} events, and it is older than the first array that this queue had, \
             so that its events have no places of their own among the changes: send them again"
        )
    } else {
        return None;
    };
    Some(EventRefusal::UnknownEnvelope { reason })
}

/// What is wrong with the events of one array, as one refusal.
fn refused(mut refusals: Vec<Numbered<EventRefusal>>, events: usize) -> Option<EventRefusal> {
    refusals.sort_by_key(|refusal| refusal.number);
    let told: Vec<String> = refusals
        .iter()
        .map(|Numbered { number, of }| {
            format!("event {} of {events} in its JSON array: {of}", number + 1)
        })
        .collect();
    let first = refusals.into_iter().next()?.of;
    Some(EventRefusal::InArray { told: told.join("; "), first: Box::new(first) })
}
