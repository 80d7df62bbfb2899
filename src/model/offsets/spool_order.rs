//! The order of changes, over all spools that a queue has had.

use std::fmt;

use super::Offset;

/// The place of a change in the one order in which changes apply: newer wins.
///
/// Within a spool it follows the broker's order; a spool that was seen later comes after all
/// earlier ones (the queue moved to another broker). It is a column of the landing tables, so that
/// "the newest row per key" means the same there and in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub i64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bits of a position that hold the message id; the generation of the spool is above them.
const ID_BITS: u32 = 44;

/// The spools that this pipeline has consumed from, in the order of their first message.
///
/// Persisted with the ledger: a restart must not change the order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolOrder {
    spools: Vec<u64>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PositionError {
    #[error("the message {offset} is of a spool that was not registered")]
    UnknownSpool { offset: Offset },
    #[error("the message {offset} has an id above 2^44, which no position can hold")]
    IdTooLarge { offset: Offset },
}

impl SpoolOrder {
    /// From the ledger: the spools in the order of their generations.
    pub fn new(spools: Vec<u64>) -> Self {
        Self { spools }
    }

    /// Appends the spool of `offset` if it is new; `true` if it was.
    pub fn register(&mut self, offset: Offset) -> bool {
        let is_new = !self.spools.contains(&offset.spool);
        if is_new {
            self.spools.push(offset.spool);
        }
        is_new
    }

    pub fn spools(&self) -> &[u64] {
        &self.spools
    }

    /// # Errors
    /// If the spool was never registered, or the id does not fit.
    pub fn position(&self, offset: Offset) -> Result<Position, PositionError> {
        let generation = self.spools.iter().position(|spool| *spool == offset.spool);
        let generation = generation.ok_or(PositionError::UnknownSpool { offset })?;
        if offset.id >> ID_BITS != 0 {
            return Err(PositionError::IdTooLarge { offset });
        }
        Ok(Position(((generation as i64) << ID_BITS) | offset.id as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_spool_comes_after_all_ids_of_an_earlier_one() {
        let mut order = SpoolOrder::default();
        assert!(order.register(Offset::new(9, 0)));
        assert!(order.register(Offset::new(3, 0)));
        assert!(!order.register(Offset::new(9, 5)));
        let old = order.position(Offset::new(9, (1 << 44) - 1));
        let new = order.position(Offset::new(3, 0));
        assert!(old.unwrap() < new.unwrap());
    }

    #[test]
    fn unknown_spools_and_huge_ids_are_refused() {
        let mut order = SpoolOrder::default();
        let offset = Offset::new(1, 1 << 44);
        assert_eq!(order.position(offset), Err(PositionError::UnknownSpool { offset }));
        order.register(offset);
        assert_eq!(order.position(offset), Err(PositionError::IdTooLarge { offset }));
    }
}
