//! What one operator keeps, on disk.

use std::sync::Arc;

use arrow::error::ArrowError;

use super::engine::{Engine, Kind, Number, Writes};
use crate::model::{SpaceId, StateSpace, StateWrites, VisitPair};

#[derive(Debug)]
pub(in crate::state) struct DiskSpace {
    engine: Arc<Engine>,
    number: Number,
}

impl DiskSpace {
    pub(in crate::state) fn new(engine: &Arc<Engine>, number: Number) -> Arc<Self> {
        Arc::new(Self { engine: Arc::clone(engine), number })
    }
}

impl StateSpace for DiskSpace {
    fn id(&self) -> SpaceId {
        SpaceId(self.number)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ArrowError> {
        let value = self.engine.get(Kind::Rows, &place(self.id(), key))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn each(&self, visit: VisitPair<'_>) -> Result<(), ArrowError> {
        let prefix = self.number.to_be_bytes();
        self.engine.each(Kind::Rows, &prefix, |key, value| visit(&key[prefix.len()..], &value))
    }

    fn spill(&self, write: &mut dyn FnMut(&mut dyn StateWrites)) -> Result<(), ArrowError> {
        let mut writes = self.engine.writes();
        write(&mut writes);
        Ok(writes.commit()?)
    }
}

impl StateWrites for Writes {
    fn put(&mut self, space: SpaceId, key: &[u8], value: &[u8]) {
        self.insert(Kind::Rows, &place(space, key), value);
    }

    fn remove(&mut self, space: SpaceId, key: &[u8]) {
        Self::remove(self, Kind::Rows, &place(space, key));
    }
}

fn place(SpaceId(number): SpaceId, key: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], key].concat()
}
