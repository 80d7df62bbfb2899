//! Which tables change how often, by which operations, and how often many changes come at once.

use std::str::FromStr;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::event::Operation;
use super::row::SalesTable;

/// Shares of [`SalesTable::ALL`], in that order: `40,40,10,8,2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableMix([u32; 5]);

/// Shares of creates, updates and deletes: `70,25,5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationMix([u32; 3]);

/// Events that come all at once, again and again: `5000/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bursts {
    events: u64,
    every: Duration,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{text}' is not {expected}")]
pub struct MixError {
    text: String,
    expected: &'static str,
}

impl TableMix {
    pub(super) fn pick(self, rng: &mut StdRng) -> SalesTable {
        SalesTable::ALL[weighted(&self.0, rng)]
    }
}

impl Default for TableMix {
    fn default() -> Self {
        Self([40, 40, 10, 8, 2])
    }
}

impl FromStr for TableMix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        const EXPECTED: &str = "five shares of orders, items, customers, products and audit entries, such as 40,40,10,8,2";
        shares(text, EXPECTED).map(Self)
    }
}

impl OperationMix {
    pub(super) const fn new(creates: u32, updates: u32, deletes: u32) -> Self {
        Self([creates, updates, deletes])
    }

    pub(super) fn pick(self, rng: &mut StdRng) -> Operation {
        [Operation::Create, Operation::Update, Operation::Delete][weighted(&self.0, rng)]
    }
}

impl FromStr for OperationMix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        shares(text, "three shares of creates, updates and deletes, such as 70,25,5").map(Self)
    }
}

impl Bursts {
    /// How many events bursts have added by now.
    pub(super) fn due_after(self, elapsed: Duration) -> u64 {
        let bursts = elapsed.as_nanos() / self.every.as_nanos().max(1);
        self.events.saturating_mul(u64::try_from(bursts).unwrap_or(u64::MAX))
    }
}

impl FromStr for Bursts {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let expected = "events and a time, such as 5000/10s";
        let wrong = || MixError { text: text.to_owned(), expected };
        let (events, every) = text.split_once('/').ok_or_else(wrong)?;
        let events = events.trim().parse().map_err(|_| wrong())?;
        let every = humantime::parse_duration(every.trim()).map_err(|_| wrong())?;
        if every.is_zero() { Err(wrong()) } else { Ok(Self { events, every }) }
    }
}

fn shares<const COUNT: usize>(
    text: &str,
    expected: &'static str,
) -> Result<[u32; COUNT], MixError> {
    let wrong = || MixError { text: text.to_owned(), expected };
    let parsed: Result<Vec<u32>, _> = text.split(',').map(|share| share.trim().parse()).collect();
    let shares: [u32; COUNT] = parsed.map_err(|_| wrong())?.try_into().map_err(|_| wrong())?;
    let is_usable = shares.iter().try_fold(0u32, |sum, share| sum.checked_add(*share));
    if is_usable.is_some_and(|sum| sum > 0) { Ok(shares) } else { Err(wrong()) }
}

/// An index, each as often as its share.
fn weighted(shares: &[u32], rng: &mut StdRng) -> usize {
    let mut left = rng.random_range(0..shares.iter().sum::<u32>());
    shares
        .iter()
        .position(|share| {
            let is_here = left < *share;
            left = left.saturating_sub(*share);
            is_here
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn shares_are_kept() {
        let mut rng = StdRng::seed_from_u64(1);
        let mix: TableMix = "0,1,0,3,0".parse().unwrap();
        let picked: Vec<SalesTable> = (0..4_000).map(|_| mix.pick(&mut rng)).collect();
        let of = |table| picked.iter().filter(|picked| **picked == table).count();
        assert_eq!(of(SalesTable::OrderItems) + of(SalesTable::Products), 4_000);
        assert!((2_800..3_200).contains(&of(SalesTable::Products)));
        let deletes: OperationMix = "0,0,1".parse().unwrap();
        assert_eq!(deletes.pick(&mut rng), Operation::Delete);
    }

    #[test]
    fn bursts_come_at_the_end_of_each_period() {
        let bursts: Bursts = "5000/10s".parse().unwrap();
        assert_eq!(bursts.due_after(Duration::from_millis(9_999)), 0);
        assert_eq!(bursts.due_after(Duration::from_secs(25)), 10_000);
    }

    #[test]
    fn what_is_no_mix_is_refused_with_an_example() {
        for text in ["", "1,2", "0,0,0,0,0", "a,b,c,d,e", "-1,0,0,0,2"] {
            let error = text.parse::<TableMix>().unwrap_err().to_string();
            assert!(error.contains("40,40,10,8,2"), "{error}");
        }
        assert!("0,0,0".parse::<OperationMix>().is_err());
        assert!("5000/0s".parse::<Bursts>().is_err());
    }
}
