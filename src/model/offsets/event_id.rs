//! What names an event for ever: its message, and which event of that it is.

use std::fmt;

use super::{Offset, Position};

/// The id of an event, as landing tables and dead letters have it: the offset of its message, and for the second and later
/// events of a JSON array their number. Rows of one event have `#` and something of their own behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    offset: Offset,
    /// Counts from 0.
    event: usize,
}

impl EventId {
    pub fn new(offset: Offset, position: Position) -> Self {
        Self { offset, event: position.event() }
    }

    /// That of its message.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Those of a message with so many events.
    pub fn all(offset: Offset, events: usize) -> impl Iterator<Item = Self> {
        (0..events).map(move |event| Self { offset, event })
    }

    /// The message of an event, or of a row of it.
    pub fn message(id: &str) -> Option<Offset> {
        id.split('#').next()?.parse().ok()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            0 => self.offset.fmt(f),
            later => write!(f, "{}#event{}", self.offset, later + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_message_and_the_first_event_has_the_id_of_its_message() {
        let offset = Offset::new(7, 5);
        let ids: Vec<String> = EventId::all(offset, 3).map(|id| id.to_string()).collect();
        assert_eq!(ids[0], offset.to_string());
        assert_eq!(ids[2], format!("{offset}#event3"));
        for id in ids {
            assert_eq!(EventId::message(&id), Some(offset));
            assert_eq!(EventId::message(&format!("{id}#before")), Some(offset));
        }
        assert_eq!(EventId::message("#event2"), None);
    }
}
