//! The ways in which one test is run: all must show the same rows.

use std::fmt;

use super::script::{Step, Test};

/// Where batches end and the processor starts anew, by number of events before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variation {
    kind: VariationKind,
    /// Rising; the last one is the number of events.
    pub(super) borders: Vec<usize>,
    /// Whether the processor starts anew at a border that has no `restart`.
    restarts: Restarts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VariationKind {
    AsWritten,
    OneBatch,
    Cut(usize),
    CutAndRestart(usize),
    Singles,
    SinglesAndRestarts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restarts {
    Written,
    Always,
}

impl Variation {
    pub(super) fn restarts_at(&self, border: usize, written: &[usize]) -> bool {
        self.restarts == Restarts::Always || written.contains(&border)
    }
}

impl fmt::Display for Variation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            VariationKind::AsWritten => write!(f, "as written"),
            VariationKind::OneBatch => write!(f, "all events in one batch"),
            VariationKind::Cut(after) => {
                write!(f, "two batches, the first ends after event {after}")
            }
            VariationKind::CutAndRestart(after) => write!(f, "a restart after event {after}"),
            VariationKind::Singles => write!(f, "one event per batch"),
            VariationKind::SinglesAndRestarts => {
                write!(f, "one event per batch, a restart after each")
            }
        }
    }
}

/// As written, in one batch, with each single cut, with a restart at each, and event by event.
pub(super) fn variations(test: &Test) -> Vec<Variation> {
    let count = test.steps.iter().filter(|step| matches!(step, Step::Event { .. })).count();
    let new = |kind, borders, restarts| Variation { kind, borders, restarts };
    let mut written = borders(test, |step| !matches!(step, Step::Event { .. }));
    written.extend((written.last() != Some(&count)).then_some(count));
    let mut all = vec![
        new(VariationKind::AsWritten, written, Restarts::Written),
        new(VariationKind::OneBatch, vec![count], Restarts::Written),
    ];
    all.extend(
        (1..count).map(|cut| new(VariationKind::Cut(cut), vec![cut, count], Restarts::Written)),
    );
    let singles: Vec<usize> = (1..=count).collect();
    all.push(new(VariationKind::Singles, singles.clone(), Restarts::Written));
    for cut in 1..=count {
        let borders = if cut == count { vec![count] } else { vec![cut, count] };
        all.push(new(VariationKind::CutAndRestart(cut), borders, Restarts::Always));
    }
    all.push(new(VariationKind::SinglesAndRestarts, singles, Restarts::Always));
    all
}

/// After how many events the steps of a kind stand; without 0, where nothing has happened.
pub(super) fn borders(test: &Test, is_one: impl Fn(&Step) -> bool) -> Vec<usize> {
    let (mut count, mut found) = (0, Vec::new());
    for step in &test.steps {
        count += usize::from(matches!(step, Step::Event { .. }));
        if is_one(step) && count > 0 && found.last() != Some(&count) {
            found.push(count);
        }
    }
    found
}
