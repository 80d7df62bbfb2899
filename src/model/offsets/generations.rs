//! The order of changes, over all spools that a queue has had.

use std::fmt;

use super::Offset;

/// The place of a change in the one order in which changes apply: newer wins.
///
/// Within a spool it follows the broker's order; each change of spool (the queue moved to another broker, or back) begins
/// a generation above all before it. It is a column of the landing tables, so that
/// "the newest row per key" means the same there and in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub i64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bits of a position that hold the message id; the generation is above them.
const ID_BITS: u32 = 44;

/// The time during which a queue's ids come from one spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    pub number: u32,
    pub spool: u64,
    /// The first id that was seen in it.
    pub first: u64,
}

/// The generations of a queue, oldest first.
///
/// A spool that comes again after another one begins a new generation: after a failback to the first site its
/// changes are newer than those of the second site. Persisted with the ledger, since a restart must not change the order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generations {
    known: Vec<Generation>,
    /// The lowest number that a new one may get: below it are those of other queues and pipelines.
    lowest: u32,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PositionError {
    #[error("the message {offset} is of a spool that was not registered")]
    UnknownSpool { offset: Offset },
    #[error("the message {offset} has an id above 2^44, which no position can hold")]
    IdTooLarge { offset: Offset },
}

impl Generations {
    /// From the ledger, oldest first; new ones get `lowest` or a higher number.
    pub fn new(known: Vec<Generation>, lowest: u32) -> Self {
        Self { known, lowest }
    }

    /// Generation 0 of one spool, for what has no ledger.
    pub fn of_spool(spool: u64) -> Self {
        Self::new(vec![Generation { number: 0, spool, first: 0 }], 0)
    }

    /// To be asked for each message that was not taken before, in broker order: begins a generation if its spool
    /// is another one than that of the message before.
    pub fn register(&mut self, offset: Offset) {
        let newest = self.known.last();
        if newest.is_none_or(|newest| newest.spool != offset.spool) {
            let number = newest.map_or(0, |newest| newest.number + 1).max(self.lowest);
            self.known.push(Generation { number, spool: offset.spool, first: offset.id });
        }
    }

    pub fn all(&self) -> &[Generation] {
        &self.known
    }

    /// # Errors
    /// If the spool was never registered, or the id does not fit.
    pub fn position(&self, offset: Offset) -> Result<Position, PositionError> {
        let mut of_spool = self.known.iter().filter(|known| known.spool == offset.spool);
        // What was not taken before a failback is older than what came after it.
        let begun = of_spool.clone().rfind(|known| known.first <= offset.id);
        let generation = begun.or_else(|| of_spool.next());
        let generation = generation.ok_or(PositionError::UnknownSpool { offset })?;
        if offset.id >> ID_BITS != 0 {
            return Err(PositionError::IdTooLarge { offset });
        }
        Ok(Position((i64::from(generation.number) << ID_BITS) | offset.id as i64))
    }
}

impl Position {
    /// The lowest of a generation.
    pub fn first_of(generation: u32) -> Self {
        Self(i64::from(generation) << ID_BITS)
    }

    /// The number of the generation that it is in.
    pub fn generation(self) -> u32 {
        // Positions are made of 20 bits of generation.
        u32::try_from(self.0 >> ID_BITS).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_spool_comes_after_all_ids_of_an_earlier_one() {
        let mut order = Generations::default();
        order.register(Offset::new(9, 0));
        order.register(Offset::new(3, 0));
        let old = order.position(Offset::new(9, (1 << 44) - 1));
        let new = order.position(Offset::new(3, 0));
        assert!(old.unwrap() < new.unwrap());
    }

    #[test]
    fn after_a_failback_the_first_spool_is_newer_than_the_second_but_its_old_ids_are_not() {
        let mut order = Generations::default();
        order.register(Offset::new(9, 10));
        order.register(Offset::new(9, 20));
        order.register(Offset::new(3, 1));
        order.register(Offset::new(9, 30));
        let at = |spool, id| order.position(Offset::new(spool, id)).unwrap();
        assert_eq!(order.all().len(), 3);
        assert!(at(9, 20) < at(3, 1) && at(3, 1000) < at(9, 30) && at(9, 30) < at(9, 31));
        assert_eq!([at(9, 5), at(9, 29)].map(Position::generation), [0, 0]);
        assert_eq!([at(3, 1), at(9, 30)].map(Position::generation), [1, 2]);
        assert!(at(3, 1) > Position::first_of(1) && at(3, 1) < Position::first_of(2));
    }

    #[test]
    fn a_renamed_queue_begins_above_what_the_tables_hold() {
        let mut order = Generations::new(Vec::new(), 5);
        order.register(Offset::new(9, 10));
        assert_eq!(order.position(Offset::new(9, 10)).unwrap().generation(), 5);
    }

    #[test]
    fn unknown_spools_and_huge_ids_are_refused() {
        let mut order = Generations::default();
        let offset = Offset::new(1, 1 << 44);
        assert_eq!(order.position(offset), Err(PositionError::UnknownSpool { offset }));
        order.register(offset);
        assert_eq!(order.position(offset), Err(PositionError::IdTooLarge { offset }));
    }
}
