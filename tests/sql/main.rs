//! The referee of the incremental SQL: a corpus of queries, random streams, and after every epoch each
//! result must be what the query gives from scratch, by changes none of which was needless.
//!
//! `TIDEMARK_FUZZ_SECONDS` runs it for that long, from seeds of its own, instead of a few fixed ones;
//! `TIDEMARK_FUZZ_SEED` runs the one stream that a failure names.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

#[path = "../support/postgres.rs"]
#[expect(dead_code, reason = "other tests also kill and restart it")]
mod postgres_server;

mod corpus;
mod engine;
mod minimize;
mod model;
mod postgres;
mod rows;
mod scratch;
mod stage;
mod stream;

use std::time::{Duration, Instant, SystemTime};

use corpus::{Corpus, header, tables};
use engine::Engine;
use minimize::minimize;
use stage::play;
use stream::stream;

const FIXED_SEEDS: std::ops::Range<u64> = 1..5;
const BROKEN_SEEDS: std::ops::Range<u64> = 1..30;

/// Plays the stream of a seed; panics with the smallest stream that fails.
async fn referee(corpus: &Corpus, seed: u64) {
    let epochs = stream(seed);
    let Err(failure) = play(&corpus.files, &epochs).await else { return };
    let files = corpus.needed_by(&failure.file);
    let epochs = minimize(&files, epochs).await;
    let failure = play(&files, &epochs).await.expect_err("it still fails");
    let text = corpus.text(&failure.file);
    panic!("seed {seed}: {failure}\n{text}\nstream:\n{}", stream::describe(&epochs));
}

#[tokio::test]
async fn every_result_is_its_select_after_every_epoch() {
    let corpus = Corpus::read();
    if let Some(seed) = number("TIDEMARK_FUZZ_SEED") {
        return referee(&corpus, seed).await;
    }
    let Some(seconds) = number("TIDEMARK_FUZZ_SECONDS") else {
        for seed in FIXED_SEEDS {
            referee(&corpus, seed).await;
        }
        return;
    };
    let started = Instant::now();
    let mut seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    while started.elapsed() < Duration::from_secs(seconds) {
        referee(&corpus, seed).await;
        seed += 1;
    }
}

/// What a variable of the environment says.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

/// A line `-- broken:` goes when the engine gets the query right.
#[tokio::test]
async fn a_query_that_is_said_to_be_broken_is() {
    let corpus = Corpus::read();
    for file in &corpus.broken {
        let files = corpus.needed_by(&file.name);
        let why = header(&file.text, "broken").unwrap();
        let mut played = Ok(());
        for seed in BROKEN_SEEDS {
            if played.is_ok() {
                played = play(&files, &stream(seed)).await;
            }
        }
        let Err(failure) = played else {
            panic!("{} is right now: drop its line `-- broken:`", file.name)
        };
        assert!(failure.to_string().contains(why), "{failure}, not '{why}'");
    }
}

#[tokio::test]
async fn postgres_gives_the_same_rows() {
    let corpus = Corpus::read();
    postgres::agrees(&corpus, 101).await;
    postgres::agrees(&corpus, 102).await;
}

#[tokio::test]
async fn most_queries_are_maintained_and_not_computed_anew() {
    let corpus = Corpus::read();
    let started = Engine::start(&tables(), &corpus.files, Vec::new(), None).await;
    let engine = started.unwrap_or_else(|refused| panic!("{}: {}", refused.file, refused.why));
    let expected = [
        "chain_anew_of_kept",
        "exists_or",
        "grouping_sets",
        "join_non_equi",
        "join_non_equi_left",
        "join_or",
        "limit_join",
        "limit_offset",
        "not_in_known",
        "not_in_subquery",
        "not_in_subquery_keys",
        "not_in_text",
        "over_lag",
        "over_newest",
        "over_rank",
        "over_running",
        "recursive",
        "rollup",
        "scalar_shown",
        "scalar_subquery",
        "top_three",
        "watermark_shown",
        "window_difference",
        "window_full_join_condition",
        "window_is_known",
        "window_left_join_outer_condition",
        "window_mark_in_cte",
        "window_not_exists_outer",
        "window_sum_of_sides",
        "window_truncated_mark",
    ];
    assert_eq!(engine.costly(), expected);
    assert!(corpus.files.len() >= 200, "{} files", corpus.files.len());
}
