//! Whether refused rows are the rows' fault or their table's.

use std::collections::HashMap;

use crate::sink::SinkError;

/// So many refused rows are never a flood.
const FEW: u64 = 20;
/// About so many rows are remembered per table.
const REMEMBERED: u64 = 1000;

/// Refused rows per target, over the rows of late.
pub(crate) struct FloodGauge {
    max_percent: u64,
    /// Rows, and how many of them were refused.
    recent: HashMap<String, (u64, u64)>,
}

impl FloodGauge {
    pub(crate) fn new(max_percent: u8) -> Self {
        Self { max_percent: max_percent.into(), recent: HashMap::new() }
    }

    /// Notes that `refused` of `rows` rows of an epoch were refused.
    ///
    /// # Errors
    /// [`SinkError::Flood`] if that is too much; then nothing is noted. `first` describes a row.
    pub(crate) fn note(
        &mut self,
        table: &str,
        refused: usize,
        rows: usize,
        first: &str,
    ) -> Result<(), SinkError> {
        let (of_before, refused_before) = self.recent.get(table).copied().unwrap_or_default();
        let (mut of, mut bad) = (of_before + rows as u64, refused_before + refused as u64);
        if refused > 0 && bad > FEW && bad * 100 > of * self.max_percent {
            return Err(SinkError::Flood {
                table: table.to_owned(),
                refused: bad,
                of,
                first: first.to_owned(),
            });
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
        assert!(flood.to_string().contains("id = 7: too long"), "{flood}");
        gauge.note("t", 0, 5000, "").unwrap();
        gauge.note("other", 20, 20, "").unwrap();
    }

    #[test]
    fn everything_may_be_diverted_if_the_operator_says_so() {
        FloodGauge::new(100).note("t", 5000, 5000, "").unwrap();
    }
}
