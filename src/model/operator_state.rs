//! How operators keep their state beyond the process: the places on disk, as operators see them.

use std::fmt;
use std::iter::Sum;
use std::sync::Arc;

use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

/// Tells a space from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceId(pub u16);

/// What is shown the pairs of a space; an error ends it.
pub type VisitPair<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), ArrowError>;

/// A place on disk for what one operator keeps: values by key, as they were at the last flush.
pub trait StateSpace: fmt::Debug + Send + Sync {
    fn id(&self) -> SpaceId;

    /// # Errors
    /// If the disk can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ArrowError>;

    /// Shows all pairs, in the order of their keys.
    ///
    /// # Errors
    /// If the disk can't be read, or `visit` fails.
    fn each(&self, visit: VisitPair<'_>) -> Result<(), ArrowError>;

    /// Writes at once, which is for a space alone that no flush has named yet.
    ///
    /// # Errors
    /// If the disk can't be written: nothing of it is there then.
    fn spill(&self, write: &mut dyn FnMut(&mut dyn StateWrites)) -> Result<(), ArrowError>;
}

/// Writes that are done together.
pub trait StateWrites {
    fn put(&mut self, space: SpaceId, key: &[u8], value: &[u8]);
    fn remove(&mut self, space: SpaceId, key: &[u8]);
}

/// What the operators of one result keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOperators {
    /// What they compute: the state of other operators is of no use.
    pub identity: String,
    /// In the order of the operators.
    pub spaces: Vec<KeptSpace>,
}

/// A space, and what its operator has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSpace {
    pub id: SpaceId,
    pub counts: Vec<u64>,
}

/// Where the operators of results have their spaces.
pub trait StateSpaces {
    /// What was kept of a result at the last flush.
    fn kept(&self, result: &str) -> Option<&KeptOperators>;

    /// A space that is kept; `None` if there is no disk.
    fn open(&mut self, id: SpaceId) -> Option<Arc<dyn StateSpace>>;

    /// A space without anything in it; `None` if there is no disk.
    fn new_space(&mut self) -> Option<Arc<dyn StateSpace>>;
}

/// What results keep, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Upkeep {
    pub bytes: usize,
    /// Bytes of it that may leave memory when the disk has them.
    pub may_leave: usize,
}

impl Upkeep {
    /// Bytes that stay in memory.
    pub fn resident(self) -> usize {
        self.bytes.saturating_sub(self.may_leave)
    }
}

impl Sum for Upkeep {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            bytes: sum.bytes + one.bytes,
            may_leave: sum.may_leave + one.may_leave,
        })
    }
}
