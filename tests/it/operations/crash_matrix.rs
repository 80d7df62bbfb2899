//! Kills of every part, at named points and at random, under load.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidemark_dev::stack::Settings;

use crate::referee;
use crate::shop::{Shop, pause};

/// Where a processor dies by itself, and at which pass. Several passes of each, because the first
/// pass after a start meets another state than later ones.
const FAILPOINTS: [&str; 16] = [
    "before_commit:1",
    "between_commit_and_ack:1",
    "bootstrap:1",
    "before_commit:2",
    "checkpoint_publish:1",
    "between_commit_and_ack:2",
    "bootstrap:3",
    "before_commit:5",
    "between_commit_and_ack:4",
    "checkpoint_publish:2",
    "bootstrap:5",
    "before_commit:9",
    "between_commit_and_ack:8",
    "before_commit:3",
    "checkpoint_publish:1",
    "between_commit_and_ack:3",
];

const EVENTS: &str = "9000";

#[tokio::test]
async fn thirty_two_kills_of_the_processor_lose_and_double_nothing() {
    let shop =
        Shop::open_with(|settings| Settings { checkpoint_interval: "200ms", ..settings }).await;
    let mut generator =
        shop.stack.generator(&["--rate", "150/s", "--events", EVENTS]).expect("a generator");
    let mut random = StdRng::seed_from_u64(20_261_123);
    for failpoint in FAILPOINTS {
        let mut processor = shop.stack.processor(Some(failpoint)).expect("a processor");
        assert!(!shop.wait_for_end(&mut processor).await, "{failpoint} was not met");

        let mut processor = shop.stack.processor(None).expect("a processor");
        let more = random.random_range(1..120);
        shop.wait_for(shop.committed().await + more).await;
        processor.kill().await.expect("a kill");
    }
    let mut processor = shop.stack.processor(None).expect("a processor");
    assert!(shop.wait_for_end(&mut generator).await, "{}", shop.log_tail("generate"));
    let published = shop.stack.published().expect("a count");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn kills_of_broker_and_postgres_lose_and_double_nothing() {
    let mut shop = Shop::open().await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let mut generator =
        shop.stack.generator(&["--rate", "200/s", "--events", "6000"]).expect("a generator");
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..4 {
        let more = random.random_range(50..300);
        shop.wait_for(shop.committed().await + more).await;
        shop.stack.postgres.kill().await.expect("a kill");
        pause().await;
        shop.stack.postgres.start().await.expect("Postgres starts again");

        let more = random.random_range(50..300);
        shop.wait_for(shop.committed().await + more).await;
        shop.stack.kill_broker().await.expect("a kill");
        pause().await;
        shop.stack.start_broker().await.expect("the broker starts again");
    }
    assert!(shop.wait_for_end(&mut generator).await, "{}", shop.log_tail("generate"));
    let published = shop.stack.published().expect("a count");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}
