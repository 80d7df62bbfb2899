use super::index::Slot;
use super::store::Place;

/// Where the row of each slot is now, so that an index need not know when rows move.
#[derive(Debug, Default)]
pub(super) struct Slots {
    places: Vec<Place>,
    free: Vec<Slot>,
}

impl Slots {
    pub(super) fn take(&mut self, place: Place) -> Slot {
        match self.free.pop() {
            Some(slot) => {
                self.places[slot as usize] = place;
                slot
            }
            None => {
                self.places.push(place);
                (self.places.len() - 1) as Slot
            }
        }
    }

    pub(super) fn give_back(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    pub(super) fn set(&mut self, slot: Slot, place: Place) {
        self.places[slot as usize] = place;
    }

    pub(super) fn place(&self, slot: Slot) -> Place {
        self.places[slot as usize]
    }

    pub(super) fn memory(&self) -> usize {
        self.places.capacity() * size_of::<Place>() + self.free.capacity() * size_of::<Slot>()
    }
}
