//! Old changes leave a landing table: which of them, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidemark::model::{Cell, Epoch, EpochCommit, Table, TableOptions};
use tidemark::sink::Sink;
use tidemark::sink::conformance::{PIPELINE, epoch, orders};
use tidemark::sink::postgres::{LandingPruner, PostgresConfig, PostgresSink};

use crate::Database;
use crate::postgres::Durability;

const HISTORY: Duration = days(30);
const INDEXES: &str = "CREATE INDEX ON orders_history (order_id, change_seq DESC); \
                       CREATE INDEX ON orders_history (processed_at)";

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

/// A database whose landing table of `orders` keeps 30 days.
struct Bounded {
    database: Database,
    sink: PostgresSink,
    pruner: LandingPruner,
    now: SystemTime,
}

impl Bounded {
    async fn start() -> Self {
        let database = Database::start(Durability::Off).await;
        database.server.client().await.batch_execute(INDEXES).await.unwrap();
        let sink = database.sink().await;
        let config = PostgresConfig::from_url(database.server.url());
        let pruner = LandingPruner::new(config, PIPELINE).unwrap();
        // What the columns hold is exact to the microsecond.
        Self { database, sink, pruner, now: SystemTime::UNIX_EPOCH + days(20_000) }
    }

    /// Commits an epoch that was closed that number of days ago.
    async fn commit(&mut self, ago: u64, commit: EpochCommit) {
        self.now += Duration::from_millis(1);
        let commit = EpochCommit { closed_at: self.now - days(ago), ..commit };
        self.sink.commit(&commit).await.unwrap();
    }

    /// The state on disk has all epochs up to one, and the checkpoints as well.
    async fn compact(&mut self, up_to: u64) {
        self.sink.ledger_reader().compact_ledger(Epoch(up_to)).await.unwrap();
    }

    /// How many rows have left.
    async fn prune(&mut self) -> u64 {
        let mut rows = 0;
        loop {
            let pruned = self.pruner.prune_some(&bounded(), self.now).await.unwrap();
            rows += pruned.rows;
            if pruned.is_done {
                return rows;
            }
        }
    }

    /// The landed rows as key and position.
    async fn landed(&self) -> Vec<(i64, i64)> {
        let sql = "SELECT order_id, change_seq FROM orders_history ORDER BY 1, 2";
        let rows = self.database.server.client().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

fn bounded() -> Arc<Table> {
    let table = Arc::unwrap_or_clone(orders());
    let options = TableOptions { history: Some(HISTORY), ..table.options };
    Arc::new(Table { options, ..table })
}

/// The events of these rows of an epoch did not carry the status.
fn without_status(mut commit: EpochCommit, rows: &[usize]) -> EpochCommit {
    commit.landing[0].unchanged = rows.iter().map(|row| Cell { row: *row, column: 1 }).collect();
    commit
}

#[tokio::test]
async fn old_changes_leave_and_the_newest_of_each_key_stays() {
    let mut bounded = Bounded::start().await;
    let first = epoch(1).created(10, 1, "a").created(20, 2, "a").created(30, 3, "a");
    bounded.commit(400, first.created(40, 4, "a").created(50, 5, "a").build()).await;
    bounded.commit(40, epoch(2).updated(110, 1, "b").deleted(120, 2).deleted(150, 5).build()).await;
    bounded.commit(5, epoch(3).updated(230, 3, "b").created(250, 5, "b").build()).await;
    bounded.commit(0, epoch(4).created(310, 6, "a").build()).await;
    let all = bounded.landed().await;
    assert_eq!(bounded.prune().await, 0, "the ledger has all epochs");
    bounded.compact(1).await;
    assert_eq!(
        bounded.prune().await,
        4,
        "of the second epoch nothing leaves, and key 4 has only one"
    );
    bounded.compact(3).await;
    assert_eq!(bounded.prune().await, 2, "deletes that are the last of their key, or superseded");
    assert_eq!(bounded.landed().await, [(1, 110), (3, 230), (4, 40), (5, 250), (6, 310)]);
    assert_eq!((all.len(), bounded.prune().await), (11, 0));

    // An old row leaves as soon as it is superseded, and a delete when it is old itself.
    bounded.commit(0, epoch(5).updated(440, 4, "b").deleted(430, 3).build()).await;
    assert_eq!(bounded.prune().await, 1);
    bounded.now += days(31);
    bounded.commit(0, epoch(6).build()).await;
    bounded.compact(5).await;
    assert_eq!(bounded.prune().await, 2);
    assert_eq!(bounded.landed().await, [(1, 110), (4, 440), (5, 250), (6, 310)]);
}

#[tokio::test]
async fn a_delete_stays_while_an_older_dead_letter_may_come_back() {
    let mut bounded = Bounded::start().await;
    bounded.commit(50, epoch(1).created(1, 1, "a").dead(2).build()).await;
    bounded.commit(45, epoch(2).deleted(3, 1).build()).await;
    bounded.commit(40, epoch(3).created(4, 2, "a").dead(5).build()).await;
    bounded.commit(0, epoch(4).build()).await;
    bounded.compact(3).await;
    assert_eq!(bounded.prune().await, 1);
    assert_eq!(bounded.landed().await, [(1, 3), (2, 4)], "letter 2 is older than the delete");
    let client = bounded.database.server.client().await;
    client
        .execute("UPDATE cdc_dlq SET status = 'replayed' WHERE event_id LIKE '%2'", &[])
        .await
        .unwrap();
    // Another pass over all rows: the letter is no change of the key.
    client.execute("DELETE FROM tidemark_pruned", &[]).await.unwrap();
    assert_eq!(bounded.prune().await, 1);
    assert_eq!(bounded.landed().await, [(2, 4)], "letter 5 is newer");
}

#[tokio::test]
async fn what_newer_changes_did_not_carry_stays() {
    let mut bounded = Bounded::start().await;
    let first = epoch(1).created(1, 1, "kept").created(2, 2, "gone").created(3, 3, "kept");
    bounded.commit(50, first.build()).await;
    bounded.commit(45, epoch(2).updated(4, 1, "old").updated(5, 2, "new").build()).await;
    let third = epoch(3).updated(6, 1, "x").updated(7, 2, "x").updated(8, 3, "x");
    bounded.commit(44, without_status(third.build(), &[0, 1, 2])).await;
    let fourth = epoch(4).updated(9, 1, "x").updated(10, 2, "x").updated(11, 3, "x");
    bounded.commit(0, without_status(fourth.build(), &[0, 1, 2])).await;
    bounded.compact(3).await;
    let before = newest(&mut bounded.sink).await;
    assert_eq!(bounded.prune().await, 5);
    let expected = [(1, 4), (1, 9), (2, 5), (2, 10), (3, 3), (3, 11)];
    assert_eq!(bounded.landed().await, expected);
    assert_eq!(newest(&mut bounded.sink).await, before);
}

#[tokio::test]
async fn a_table_that_is_not_made_for_it_is_left_alone_and_told() {
    let mut bounded = Bounded::start().await;
    bounded.commit(50, epoch(1).created(1, 1, "a").updated(2, 1, "b").build()).await;
    bounded.commit(0, epoch(2).build()).await;
    bounded.compact(1).await;
    let client = bounded.database.server.client().await;
    for (change, told) in [
        ("DROP INDEX orders_history_processed_at_idx", "no index on (processed_at)"),
        ("DROP INDEX orders_history_order_id_change_seq_idx", "no index on (order_id, change_seq)"),
        ("ALTER TABLE orders_history DROP COLUMN processed_at", "no column processed_at"),
    ] {
        client.batch_execute(change).await.unwrap();
        let error = bounded.pruner.prune_some(&self::bounded(), bounded.now).await.unwrap_err();
        let error = tidemark::resilience::chain(&error);
        assert!(error.contains(told), "{error}");
        assert_eq!(bounded.landed().await.len(), 2);
    }
}

#[tokio::test]
async fn a_commit_waits_for_no_pass_and_a_pass_for_no_commit() {
    let mut bounded = Bounded::start().await;
    bounded.commit(50, epoch(1).created(1, 1, "a").updated(2, 1, "b").build()).await;
    bounded.commit(0, epoch(2).build()).await;
    bounded.compact(1).await;
    let mut client = bounded.database.server.client().await;
    let open = client.transaction().await.unwrap();
    let insert = "INSERT INTO orders_history (order_id, operation, event_id, change_seq) VALUES (1, 'u', 'x', 9)";
    open.execute(insert, &[]).await.unwrap();
    assert_eq!(bounded.prune().await, 1);
    open.commit().await.unwrap();
    assert_eq!(bounded.landed().await, [(1, 2), (1, 9)]);
}

/// The newest row of each key that is not deleted: its status and position.
async fn newest(sink: &mut PostgresSink) -> BTreeMap<i64, (String, i64)> {
    use arrow::array::AsArray;
    let mut newest = BTreeMap::new();
    for part in sink.bootstrap(&orders(), None).await.unwrap() {
        for row in (0..part.len()).filter(|row| part.operations[*row].letter() != "d") {
            let key = part.batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(row);
            let status = part.batch.column(1).as_string::<i32>().value(row).to_owned();
            newest.insert(key, (status, part.positions[row].0));
        }
    }
    newest
}

/// A landed change, as the test knows it.
#[derive(Clone, Copy)]
struct Change {
    key: i64,
    position: i64,
    landed: SystemTime,
    is_delete: bool,
    has_status: bool,
}

/// What stays, by a look at all rows.
fn staying(mut rows: Vec<Change>, bound: SystemTime) -> Vec<Change> {
    let all = rows.clone();
    rows.retain(|row| {
        let others = || all.iter().filter(|other| other.key == row.key);
        let is_superseded = others().any(|other| {
            other.position > row.position
                && (other.is_delete || other.has_status || !row.has_status)
        });
        let is_alone = others().all(|other| other.position <= row.position && other.landed < bound);
        !(row.landed < bound && (is_superseded || row.is_delete && is_alone))
    });
    rows
}

/// Random changes: ids have gaps, and some come late.
struct Changes {
    random: StdRng,
    rows: Vec<Change>,
    id: u64,
}

impl Changes {
    fn epoch(&mut self, number: u64, landed: SystemTime) -> EpochCommit {
        let (mut builder, mut blank) = (epoch(number), Vec::new());
        for row in 0..self.random.random_range(0..5) {
            self.id += self.random.random_range(1..50);
            let late = self.id - self.random.random_range(0..40).min(self.id - 1);
            let id = if self.random.random_range(0..5) == 0 { late } else { self.id };
            if self.rows.iter().any(|known| known.position == id as i64) {
                break;
            }
            let key = self.random.random_range(0..6);
            let is_delete = self.random.random_range(0..4) == 0;
            let has_status = is_delete || self.random.random_range(0..3) > 0;
            builder = match is_delete {
                true => builder.deleted(id, key),
                false => builder.updated(id, key, &id.to_string()),
            };
            blank.extend((!has_status).then_some(row));
            self.rows.push(Change { key, position: id as i64, landed, is_delete, has_status });
        }
        without_status(builder.build(), &blank)
    }
}

#[tokio::test]
async fn changes_of_any_age_leave_as_a_look_at_all_of_them_says() {
    let mut bounded = Bounded::start().await;
    for seed in 0..12 {
        let random = StdRng::seed_from_u64(seed);
        let mut changes = Changes { random, rows: Vec::new(), id: 0 };
        let tables =
            "TRUNCATE orders_history, tidemark_pruned, tidemark_ledger, tidemark_committed";
        bounded.database.server.client().await.batch_execute(tables).await.unwrap();
        bounded.sink = bounded.database.sink().await;
        let mut ledger: Vec<(u64, SystemTime)> = Vec::new();
        for number in 1..60 {
            bounded.now += Duration::from_secs(changes.random.random_range(0..6 * 86_400));
            let closed_at = bounded.now + Duration::from_millis(1);
            bounded.commit(0, changes.epoch(number, closed_at)).await;
            ledger.push((number, closed_at));
            if changes.random.random_range(0..3) == 0 {
                let kept = number - changes.random.random_range(0..4).min(number);
                bounded.compact(kept).await;
                // The newest row always stays.
                ledger.retain(|(epoch, _)| *epoch > kept || *epoch == number);
            }
            if changes.random.random_range(0..4) == 0 {
                let before = newest(&mut bounded.sink).await;
                bounded.prune().await;
                let oldest = ledger.iter().map(|(_, closed_at)| *closed_at).min().unwrap();
                let bound = oldest.min(bounded.now - HISTORY);
                changes.rows = staying(std::mem::take(&mut changes.rows), bound);
                let mut expected: Vec<(i64, i64)> =
                    changes.rows.iter().map(|row| (row.key, row.position)).collect();
                expected.sort_unstable();
                assert_eq!(bounded.landed().await, expected, "seed {seed}, epoch {number}");
                assert_eq!(newest(&mut bounded.sink).await, before, "seed {seed}");
            }
        }
    }
}
