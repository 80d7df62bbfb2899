//! One test, in all its variations.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::error::ArrowError;

use super::compare::{DEAD_LETTERS, ExpectedRows, dead_letter_rows, dead_letter_schema};
use super::script::{Expected, Step, Test};
use super::variation::{Variation, borders, variations};
use super::yaml::{At, FileError, Problem};
use crate::model::ResultTable;
use crate::pipeline::{DryRun, PipelineError, Sql};
use crate::resilience::chain;

/// The most rows that a result does not show and that come with a difference.
const MOST_LEFT_OUT: usize = 5;

/// Why a test failed: what differed, in which variation, and where the file says otherwise.
#[derive(Debug)]
pub(super) struct Failure {
    path: PathBuf,
    at: At,
    test: String,
    variation: String,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, at, test, variation, what } = self;
        write!(f, "{}:{}: {test}\n  run: {variation}\n  {what}", path.display(), at.line)
    }
}

/// The end of a test that did not pass.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The file asks for what is not there.
    File(FileError),
    Failed(Box<Failure>),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Why one run ended early.
enum Ended {
    Problem(Problem),
    Differs(At, String),
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// The number of ways in which the test was run.
///
/// # Errors
/// The first variation that shows other rows than the file expects.
pub(super) async fn run(path: &Path, test: &Test, sql: &Sql) -> Result<usize, Stopped> {
    let variations = variations(test);
    for variation in &variations {
        match run_one(test, variation, sql).await {
            Ok(()) => {}
            Err(Ended::Problem(problem)) => return Err(Stopped::File(problem.in_file(path))),
            Err(Ended::Differs(at, what)) => {
                let (path, test) = (path.to_owned(), test.name.clone());
                let variation = variation.to_string();
                let failure = Failure { path, at, test, variation, what };
                return Err(Stopped::Failed(Box::new(failure)));
            }
        }
    }
    Ok(variations.len())
}

async fn run_one(test: &Test, variation: &Variation, sql: &Sql) -> Result<(), Ended> {
    let stopped = |at, error: &PipelineError| {
        Ended::Differs(at, format!("the processor stopped: {}", chain(error)))
    };
    let payloads: Vec<(At, &String)> = test.steps.iter().filter_map(event).collect();
    let written = borders(test, |step| matches!(step, Step::Restart));
    let mut rehearsal = DryRun::start(sql).await.map_err(|e| stopped(test.at, &e))?;
    let mut done = 0;
    for border in &variation.borders {
        let batch: Vec<String> = payloads[done..*border].iter().map(|p| p.1.clone()).collect();
        let last = payloads[*border - 1].0;
        rehearsal.feed(&batch).await.map_err(|error| stopped(last, &error))?;
        done = *border;
        if variation.restarts_at(done, &written) {
            rehearsal.restart().await.map_err(|error| stopped(last, &error))?;
        }
        for expected in expected_after(test, done) {
            check(expected, &rehearsal)?;
        }
    }
    for expected in &test.expected {
        check(expected, &rehearsal)?;
    }
    check_dead_letters(test, &rehearsal)
}

fn event(step: &Step) -> Option<(At, &String)> {
    match step {
        Step::Event { at, payload } => Some((*at, payload)),
        Step::Restart | Step::Expect(_) => None,
    }
}

/// What the steps between this event and the next expect.
fn expected_after(test: &Test, events: usize) -> Vec<&Expected> {
    let (mut count, mut found) = (0, Vec::new());
    for step in &test.steps {
        match step {
            Step::Event { .. } => count += 1,
            Step::Expect(expected) if count == events => found.extend(expected),
            Step::Expect(_) | Step::Restart => {}
        }
    }
    found
}

fn check(expected: &Expected, rehearsal: &DryRun<'_>) -> Result<(), Ended> {
    let at = expected.at;
    let unreadable = |error: ArrowError| Ended::Differs(at, error.to_string());
    let (schema, rows) = if expected.result == DEAD_LETTERS {
        let letters = rehearsal.dead_letters();
        let rows = if letters.is_empty() { Vec::new() } else { vec![letters] };
        let rows = rows.iter().map(|letters| dead_letter_rows(letters));
        (dead_letter_schema(), rows.collect::<Result<_, _>>().map_err(unreadable)?)
    } else {
        let is_it = |result: &&Arc<ResultTable>| result.name == expected.result;
        let result = rehearsal.results().iter().find(is_it).ok_or_else(|| {
            let names: Vec<&str> = rehearsal.results().iter().map(|r| r.name.as_str()).collect();
            let message = format!(
                "there is no result {}; there are {}, and {DEAD_LETTERS}",
                expected.result,
                names.join(", ")
            );
            Problem { at, message }
        })?;
        (Arc::clone(&result.schema), rehearsal.rows(result))
    };
    let wanted = ExpectedRows::new(expected, &schema)?;
    match wanted.difference(&rows).map_err(unreadable)? {
        None => Ok(()),
        Some(table) => {
            let mut what = format!("{} differs (- expected, + shown):\n{table}", expected.result);
            let letters = rehearsal.result_letters().into_iter();
            for letter in
                letters.filter(|letter| letter.result == expected.result).take(MOST_LEFT_OUT)
            {
                what.push_str(&format!("\n    {}: {}", letter.row, letter.message));
            }
            Err(Ended::Differs(at, what))
        }
    }
}

/// A test that doesn't speak of dead letters expects none.
fn check_dead_letters(test: &Test, rehearsal: &DryRun<'_>) -> Result<(), Ended> {
    if test.expected.iter().any(|expected| expected.result == DEAD_LETTERS) {
        return Ok(());
    }
    let letters = rehearsal.dead_letters();
    if letters.is_empty() {
        return Ok(());
    }
    let mut what = format!(
        "{} event(s) became dead letters; if that is meant, expect `{DEAD_LETTERS}:`",
        letters.len()
    );
    for letter in &letters {
        let (event, kind) = (letter.offset.id, letter.error_type.as_str());
        what.push_str(&format!("\n    event {event}: {kind}: {}", letter.message));
    }
    Err(Ended::Differs(test.at, what))
}
