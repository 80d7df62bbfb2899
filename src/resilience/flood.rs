//! Whether what is refused is refused for its own fault, or for that of its table: rows that a target refuses, and events
//! that can't be decoded.

use std::collections::HashMap;

/// Up to this many in a row are never a flood.
const FEW: u64 = 20;
/// About how many are remembered per table.
const REMEMBERED: u64 = 1000;

/// So much is refused that what is refused is not to blame: nothing of it is diverted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flood {
    pub table: String,
    pub refused: u64,
    pub of: u64,
    /// One of them, and why it is refused.
    pub first: String,
}

/// What is refused per table, over what came of late.
#[derive(Debug)]
pub struct FloodGauge {
    max_percent: u64,
    /// How many came, and how many of them were refused.
    recent: HashMap<String, (u64, u64)>,
}

impl FloodGauge {
    pub fn new(max_percent: u8) -> Self {
        Self { max_percent: max_percent.into(), recent: HashMap::new() }
    }

    /// Notes that `refused` of `rows` of an epoch were refused.
    ///
    /// # Errors
    /// If that is too much; then nothing is noted. `first` describes one.
    pub fn note(
        &mut self,
        table: &str,
        refused: usize,
        rows: usize,
        first: &str,
    ) -> Result<(), Flood> {
        let (of_before, refused_before) = self.recent.get(table).copied().unwrap_or_default();
        let (mut of, mut bad) = (of_before + rows as u64, refused_before + refused as u64);
        if refused > 0 && bad > FEW && bad * 100 > of * self.max_percent {
            let (table, first) = (table.to_owned(), first.to_owned());
            return Err(Flood { table, refused: bad, of, first });
        }
        while of > REMEMBERED {
            (of, bad) = (of / 2, bad / 2);
        }
        self.recent.insert(table.to_owned(), (of, bad));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_share_of_an_epoch_is_a_flood_and_few_rows_never_are() {
        let mut gauge = FloodGauge::new(10);
        gauge.note("t", 20, 20, "").unwrap();
        assert!(gauge.note("t", 1, 1, "").is_err(), "one row an epoch adds up");
        gauge.note("t", 0, 5000, "").unwrap();
        gauge.note("t", 50, 5000, "").unwrap();
        let flood = gauge.note("t", 600, 5000, "id = 7: too long").unwrap_err();
        assert_eq!((flood.refused, flood.first.as_str()), (606, "id = 7: too long"));
        gauge.note("t", 0, 5000, "").unwrap();
        gauge.note("other", 20, 20, "").unwrap();
    }

    #[test]
    fn everything_may_be_diverted_if_the_operator_says_so() {
        FloodGauge::new(100).note("t", 5000, 5000, "").unwrap();
    }
}
