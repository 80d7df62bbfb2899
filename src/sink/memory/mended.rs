//! What becomes of the letters about repaired rows.

use crate::model::{Mending, ReplayOutcome, Replayed, RowLetter};

/// Nothing is refused here: each row is written, and that is what its newest letter asked for.
pub(super) fn settled(mending: &Mending) -> Vec<Replayed> {
    let of_row = |letters: &Vec<RowLetter>| {
        let outcome = |at| if at == 0 { ReplayOutcome::Applied } else { ReplayOutcome::Superseded };
        let settle =
            |(at, letter): (usize, &RowLetter)| Replayed { id: letter.id, outcome: outcome(at) };
        letters.iter().enumerate().map(settle).collect::<Vec<_>>()
    };
    mending.of_upserts.iter().chain(&mending.of_deletes).flat_map(of_row).collect()
}
