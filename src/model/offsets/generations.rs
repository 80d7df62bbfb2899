//! The order of changes, over all spools that a queue has had.

use std::collections::BTreeMap;
use std::fmt;

use super::Offset;

/// The place of a change in the one order in which changes apply: newer wins.
///
/// Within a spool it follows the broker's order; each change of spool (the queue moved to another broker, or back) begins
/// a generation above all before it. It is a column of the landing tables, so that
/// "the newest row per key" means the same there and in memory.
///
/// ```text
/// generations below 2^18:  generation, 19 bits | message id, 44 bits
/// from 2^18 on:            generation, 19 bits | message id from the first one on, 30 bits | event of the message, 14 bits
/// ```
///
/// A message that is a JSON array of events needs a place for each of them. So the first array begins a generation of the
/// second form, and all that follow have it too. Its ids reach from 2^29 below the first one to 2^29 above it, and then the next
/// generation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub i64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bits of a position below its generation.
const ID_BITS: u32 = 44;

/// The lowest generation in which each event of a message has a place.
const FIRST_DIVIDED: u32 = 1 << 18;

/// Bits of a position that hold the number of an event in its message, where there are such.
const EVENT_BITS: u32 = 14;

/// Ids of a divided generation that are above its first one, and those that may come after all from below it.
const DIVIDED_IDS: u64 = 1 << (ID_BITS - EVENT_BITS - 1);

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
    /// Per spool the highest id that was taken: a generation that begins within a spool begins above it.
    taken: BTreeMap<u64, u64>,
    /// The lowest number that a new one may get: below it are those of other queues and pipelines.
    lowest: u32,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PositionError {
    #[error("the message {offset} is of a spool that was not registered")]
    UnknownSpool { offset: Offset },
    #[error("the message {offset} has an id above 2^44, which no position can hold")]
    IdTooLarge { offset: Offset },
    #[error(
        "the message {offset} is more than 500 million messages older than others of its queue"
    )]
    IdTooOld { offset: Offset },
}

impl Generations {
    /// From the ledger, oldest first; new ones get `lowest` or a higher number.
    pub fn new(known: Vec<Generation>, lowest: u32) -> Self {
        Self { known, taken: BTreeMap::new(), lowest }
    }

    /// From the ledger as well: per spool ids that were taken.
    pub fn note_taken(&mut self, spool: u64, last: u64) {
        let highest = self.taken.entry(spool).or_default();
        *highest = last.max(*highest);
    }

    /// Generation 0 of one spool, for what has no ledger.
    pub fn of_spool(spool: u64) -> Self {
        Self::new(vec![Generation { number: 0, spool, first: 0 }], 0)
    }

    /// To be asked for each message that was not taken before, in broker order: begins a generation if its spool
    /// is another one than that of the message before.
    pub fn register(&mut self, offset: Offset) {
        match self.newest_of(offset.spool) {
            None => self.begin(offset),
            Some(newest) if newest.is_divided() => self.go_on(offset, newest.first),
            Some(_) => {}
        }
        self.note_taken(offset.spool, offset.id);
    }

    /// In place of [`Self::register`] for a message that is several events.
    pub fn register_array(&mut self, offset: Offset) {
        if self.newest_of(offset.spool).is_none_or(|newest| !newest.is_divided()) {
            self.lowest = self.lowest.max(FIRST_DIVIDED);
            let above_all = self.taken.get(&offset.spool).map_or(0, |highest| highest + 1);
            self.begin(Offset::new(offset.spool, offset.id.max(above_all)));
        }
        self.register(offset);
    }

    /// The generation at hand, if it is of this spool.
    fn newest_of(&self, spool: u64) -> Option<Generation> {
        self.known.last().copied().filter(|newest| newest.spool == spool)
    }

    fn begin(&mut self, first: Offset) {
        let next = self.known.last().map_or(0, |newest| newest.number + 1);
        let (number, spool) = (next.max(self.lowest), first.spool);
        self.known.push(Generation { number, spool, first: first.id });
    }

    /// Begins the generations that the ids up to this one need.
    fn go_on(&mut self, offset: Offset, mut first: u64) {
        while offset.id >> ID_BITS == 0 && offset.id - first.min(offset.id) >= DIVIDED_IDS {
            first += DIVIDED_IDS;
            self.begin(Offset::new(offset.spool, first));
        }
    }

    pub fn all(&self) -> &[Generation] {
        &self.known
    }

    /// # Errors
    /// If the spool was never registered, or the id does not fit.
    ///
    /// It is that of the message's first event; [`Position::of_event`] has the others.
    pub fn position(&self, offset: Offset) -> Result<Position, PositionError> {
        let mut of_spool = self.known.iter().filter(|known| known.spool == offset.spool);
        // What was not taken before a failback is older than what came after it.
        let begun = of_spool.clone().rfind(|known| known.first <= offset.id);
        let generation = begun.or_else(|| of_spool.next());
        let generation = generation.ok_or(PositionError::UnknownSpool { offset })?;
        if offset.id >> ID_BITS != 0 {
            return Err(PositionError::IdTooLarge { offset });
        }
        let id = if generation.is_divided() {
            let above_lowest = (offset.id + DIVIDED_IDS).checked_sub(generation.first);
            let above_lowest = above_lowest.filter(|above| *above < 2 * DIVIDED_IDS);
            above_lowest.ok_or(PositionError::IdTooOld { offset })? << EVENT_BITS
        } else {
            offset.id
        };
        Ok(Position((i64::from(generation.number) << ID_BITS) | id as i64))
    }
}

impl Generation {
    /// Whether each event of a message has a place.
    fn is_divided(&self) -> bool {
        self.number >= FIRST_DIVIDED
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

    /// The place of an event of the message whose place this is; events count from 0. `None` if it has none.
    pub fn of_event(self, number: usize) -> Option<Self> {
        let has_place = number == 0 || (self.is_divided() && number < Self::MAX_EVENTS);
        has_place.then_some(Self(self.0 | number as i64))
    }

    /// Events that a message may have.
    pub const MAX_EVENTS: usize = 1 << EVENT_BITS;

    /// Which event of its message it is; they count from 0.
    pub fn event(self) -> usize {
        if self.is_divided() { self.0 as usize & (Self::MAX_EVENTS - 1) } else { 0 }
    }

    fn is_divided(self) -> bool {
        self.generation() >= FIRST_DIVIDED
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

    fn register_all(order: &mut Generations, ids: &[u64]) {
        ids.iter().for_each(|id| order.register(Offset::new(7, *id)));
    }

    fn of_event(order: &Generations, id: u64, event: usize) -> Option<Position> {
        order.position(Offset::new(7, id)).unwrap().of_event(event)
    }

    #[test]
    fn events_of_an_array_lie_between_the_messages_around_it() {
        let mut order = Generations::default();
        register_all(&mut order, &[1, 8, 3]);
        let before = of_event(&order, 8, 0);
        assert_eq!(of_event(&order, 3, 1), None, "a place for one event");
        order.register_array(Offset::new(7, 9));
        register_all(&mut order, &[10]);
        order.register_array(Offset::new(7, 11));
        let last = Position::MAX_EVENTS - 1;
        let places = [(9, 0), (9, 1), (9, last), (10, 0), (10, 1), (11, 0), (11, last), (12, 0)];
        let places = places.map(|(id, event)| of_event(&order, id, event));
        assert!(before < places[0] && places.is_sorted() && places.iter().all(Option::is_some));
        assert_eq!(places.map(|place| place.unwrap().event()), [0, 1, last, 0, 1, 0, last, 0]);
        assert_eq!(of_event(&order, 9, last + 1), None);
        assert_eq!(of_event(&order, 8, 0), before, "what was taken stays where it was");
        assert_eq!(order.all().len(), 2);
    }

    #[test]
    fn an_array_that_comes_late_moves_nothing_that_was_taken_before_it() {
        let mut order = Generations::default();
        order.note_taken(7, 40);
        register_all(&mut order, &[20]);
        let before = [20, 40].map(|id| of_event(&order, id, 0));
        order.register_array(Offset::new(7, 30));
        assert_eq!([20, 40].map(|id| of_event(&order, id, 0)), before);
        assert_eq!(of_event(&order, 30, 1), None);
        assert!(of_event(&order, 41, 1) > of_event(&order, 41, 0));
    }

    #[test]
    fn ids_far_apart_need_several_generations_and_keep_their_order() {
        let mut order = Generations::default();
        order.register_array(Offset::new(7, 10));
        let far = 10 + 5 * DIVIDED_IDS;
        register_all(&mut order, &[far]);
        let ids = [1, 10, 9 + DIVIDED_IDS, 10 + DIVIDED_IDS, far - 1, far, far + 1];
        let places = ids.map(|id| of_event(&order, id, 1).unwrap());
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(order.all().len(), 6);
        // A restart goes on in the same order.
        let mut again = Generations::new(order.all().to_vec(), 0);
        again.register_array(Offset::new(7, far + 1));
        assert_eq!(ids.map(|id| of_event(&again, id, 1).unwrap()), places);
        assert_eq!(again.all().len(), 6);
    }

    #[test]
    fn ids_that_a_divided_generation_does_not_reach_are_refused() {
        let mut order = Generations::default();
        order.register_array(Offset::new(7, 10));
        order.register(Offset::new(8, 1));
        let far = Offset::new(7, 10 + 5 * DIVIDED_IDS);
        order.register(far);
        let between = Offset::new(7, far.id - 1);
        assert_eq!(order.position(between), Err(PositionError::IdTooOld { offset: between }));
        let below = Offset::new(7, 1);
        assert!(order.position(below).unwrap() < order.position(Offset::new(8, 1)).unwrap());
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
