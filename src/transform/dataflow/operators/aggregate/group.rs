//! A group: how many rows it has, and what each aggregate keeps of them. On disk it is a row of numbers and values.

use super::call::{GroupState, Sum};
use super::values::ValueCounts;
use crate::transform::dataflow::keyed_state::StateValue;

#[derive(Debug)]
pub(super) struct Group {
    /// How many rows it has.
    pub(super) rows: i64,
    pub(super) states: Box<[GroupState]>,
}

const SUM: u8 = 0;
const VALUES: u8 = 1;

impl StateValue for Group {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.rows.to_be_bytes());
        for state in &self.states {
            match state {
                GroupState::Sum { rows, sum } => {
                    bytes.push(SUM);
                    bytes.extend(rows.to_be_bytes());
                    bytes.extend(sum.get().to_be_bytes());
                }
                GroupState::Values(values) => {
                    bytes.push(VALUES);
                    bytes.extend((values.len() as u64).to_be_bytes());
                    values.each(|value, count| {
                        bytes.extend((value.len() as u64).to_be_bytes());
                        bytes.extend(value);
                        bytes.extend(count.to_be_bytes());
                    });
                }
            }
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let rows = reader.number()?;
        let mut states = Vec::new();
        while !reader.0.is_empty() {
            states.push(match reader.array::<1>()? {
                [SUM] => {
                    let rows = reader.number()?;
                    let sum = Sum::from(i128::from_be_bytes(reader.array()?));
                    GroupState::Sum { rows, sum }
                }
                [VALUES] => {
                    let mut values = ValueCounts::default();
                    for _ in 0..reader.number()? {
                        let length = usize::try_from(reader.number()?).ok()?;
                        let value = reader.take(length)?;
                        values.add(value, reader.number()?);
                    }
                    GroupState::Values(values)
                }
                _ => return None,
            });
        }
        Some(Self { rows, states: states.into() })
    }

    fn memory(&self) -> usize {
        const MALLOC: usize = 16;
        let values: usize = self.states.iter().map(GroupState::memory).sum();
        size_of_val(&*self.states) + MALLOC + values
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_as_it_was_written() {
        let mut values = ValueCounts::default();
        for number in 0..200u8 {
            values.add(&vec![number; usize::from(number)], i64::from(number) + 1);
        }
        let sum = Sum::from(-(1i128 << 100));
        let states =
            [GroupState::Sum { rows: 7, sum }, GroupState::Values(values), GroupState::default()];
        let group = Group { rows: 9, states: states.into() };
        let mut bytes = Vec::new();
        group.write(&mut bytes);
        let read = Group::read(&bytes).unwrap();
        assert_eq!(format!("{group:?}"), format!("{read:?}"));
        for length in 1..bytes.len() {
            // No part of it is taken for another group, unless it ends with one of the aggregates.
            if let Some(part) = Group::read(&bytes[..length]) {
                assert!(part.states.len() < 3);
            }
        }
    }
}
