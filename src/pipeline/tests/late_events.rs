//! Events whose windows are closed, and times that are too far ahead.

use super::*;
use crate::model::{DeadLetter, ErrorType, Late, Operation, Phase, ReplayRequest};
use crate::pipeline::error::Stopped;
use crate::sink::memory::CommitFault;
use crate::telemetry::Condition;

const MINUTE: i64 = 60_000_000;
/// Minutes after which every window over the first order is closed.
pub(super) const LATER: i64 = 5000;
const START: i64 = 1_700_000_000_000_000;

/// A processor, and the queue in front of it.
pub(super) struct Stage {
    sql: Sql,
    pub(super) target: MemoryTarget,
    folder: Arc<StateFolder>,
    pub(super) processor: Processor,
    sink: MemorySink,
    sent: u64,
    /// How many dead letters `send` has returned.
    seen: usize,
}

impl Stage {
    async fn new() -> Self {
        Self::with(sql().await).await
    }

    pub(super) async fn with(sql: Sql) -> Self {
        let target = MemoryTarget::default();
        let folder = StateFolder::temporary(1 << 20).unwrap();
        let (processor, sink) = processor_in(&sql, &target, &folder).await;
        Self { sql, target, folder, processor, sink, sent: 0, seen: 0 }
    }

    /// Three epochs: the first one may not be believed, and rows leave at the end of an epoch when they are on disk.
    pub(super) async fn let_time_pass(&mut self) {
        for _ in 0..3 {
            // The last one a minute later: time goes on there.
            let later = |id: i64| LATER + i64::from(id == 1499);
            let others: Vec<String> = (1000..1500).map(|id| order(id, later(id), "new")).collect();
            self.flush();
            assert_eq!(self.send(&others).await, vec![]);
        }
    }

    /// A restart with an empty folder.
    pub(super) async fn restart(&mut self) {
        self.folder = StateFolder::temporary(1 << 20).unwrap();
        self.restart_with_state().await;
    }

    /// A restart with what is on disk.
    pub(super) async fn restart_with_state(&mut self) {
        let (sql, target, folder) = (&self.sql, &self.target, &self.folder);
        (self.processor, self.sink) = processor_in(sql, target, folder).await;
    }

    /// All that is committed is on disk.
    pub(super) fn flush(&mut self) {
        self.processor.flush_all();
    }

    /// A replay of dead letters, committed.
    pub(super) async fn replay(&mut self, payload: &str) {
        let request = ReplayRequest { id: 1, message: messages(&[payload.to_owned()]).remove(0) };
        let job = self.processor.replay(vec![request], &HashMap::new()).await.unwrap();
        commit(&mut self.sink, job).await;
    }

    /// A restart after somebody changed the SQL files.
    pub(super) async fn edit(&mut self, sql: Sql) {
        self.sql = sql;
        self.restart().await;
    }

    pub(super) async fn edit_with_state(&mut self, sql: Sql) {
        self.sql = sql;
        self.restart_with_state().await;
    }

    fn messages(&mut self, payloads: &[String]) -> Vec<Message> {
        let mut messages = messages(payloads);
        for message in &mut messages {
            message.offset.id += self.sent;
        }
        self.sent += payloads.len() as u64;
        messages
    }

    /// One committed epoch; its dead letters.
    pub(super) async fn send(&mut self, payloads: &[String]) -> Vec<DeadLetter> {
        let messages = self.messages(payloads);
        let job = self.processor.process(messages.into(), &HashMap::new()).await.unwrap();
        let epoch = job.commit.as_ref().map(|commit| commit.epoch);
        commit(&mut self.sink, job).await;
        epoch.map_or(Ok(()), |epoch| self.processor.committed(epoch)).unwrap();
        let mut all = self.target.dead_letters();
        let new = all.split_off(self.seen);
        self.seen += new.len();
        new
    }

    /// Of each look-up: rows, and the different versions that they show.
    pub(super) fn views(&self) -> Vec<(usize, usize)> {
        self.processor.views()
    }

    pub(super) fn len(&mut self, table: &str) -> usize {
        self.processor.store_len(table)
    }

    pub(super) fn landed(&self, table: &str, key: i64) -> Vec<Operation> {
        let landed = self.target.landed(table);
        let rows = landed.iter().flat_map(|changelog| {
            let keys = as_keys(changelog).into_iter().zip(&changelog.operations);
            keys.filter(|(id, _)| *id == key).map(|(_, operation)| *operation).collect::<Vec<_>>()
        });
        rows.collect()
    }
}

fn as_keys(changelog: &crate::model::Changelog) -> Vec<i64> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    changelog.batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

pub(super) fn source_event(table: &str, minute: i64, op: &str, rows: (&str, &str)) -> String {
    let ts_ms = (START + minute * MINUTE) / 1000;
    let (before, after) = rows;
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"schema":"SALES","table":"{table}","ts_ms":{ts_ms}}},"op":"{op}"}}"#
    )
}

pub(super) fn order_row(id: i64, minute: i64, status: &str) -> String {
    let date = START + minute * MINUTE;
    format!(
        r#"{{"ORDER_ID":{id},"CUSTOMER_ID":5,"ORDER_DATE":{date},"STATUS":"{status}","TOTAL_AMOUNT":"1.50"}}"#
    )
}

pub(super) fn order(id: i64, minute: i64, status: &str) -> String {
    source_event("ORDERS", minute, "u", ("null", &order_row(id, minute, status)))
}

fn item_row(id: i64, order: i64) -> String {
    format!(
        r#"{{"ITEM_ID":{id},"ORDER_ID":{order},"PRODUCT_ID":3,"QUANTITY":2,"UNIT_PRICE":"1.25","SUBTOTAL":"2.50"}}"#
    )
}

pub(super) fn item(id: i64, order: i64, minute: i64) -> String {
    source_event("ORDER_ITEMS", minute, "u", ("null", &item_row(id, order)))
}

#[track_caller]
fn assert_late(letter: &DeadLetter, payload: &str, says: &[&str]) {
    assert_eq!(letter.error_type, ErrorType::LateEvent);
    assert_eq!(letter.phase(), Phase::Late);
    assert_eq!(letter.payload, payload.as_bytes());
    assert_eq!(letter.topic, "cdc/oracle");
    for text in says {
        assert!(letter.message.contains(text), "{text:?} is not in {:?}", letter.message);
    }
}

#[tokio::test]
async fn a_target_that_is_away_is_waited_for_and_not_after_shutdown() {
    let mut stage = Stage::new().await;
    stage.send(&[order(1, 0, "new")]).await;
    let (health, shutdown) = (Health::default(), CancellationToken::new());
    let folder = StateFolder::temporary(1 << 20).unwrap();
    let (mut processor, mut sink) =
        processor_with(&stage.sql, &stage.target, (&health, &shutdown), &folder).await;
    stage.target.set_fault(CommitFault::Unavailable);
    let blocked = async || {
        while health.readiness().ready {
            tokio::task::yield_now().await;
        }
        health.readiness().conditions[&Condition::Target].clone()
    };
    // A replay asks the landing table what is newer.
    let request = |message: Message| vec![ReplayRequest { id: 1, message }];
    let letter = stage.messages(&[order(1, LATER, "paid")]).remove(0);
    let repair = async {
        assert!(blocked().await.contains("reading the history of orders"));
        stage.target.set_fault(CommitFault::None);
    };
    let none = HashMap::new();
    let (job, ()) = tokio::join!(processor.replay(request(letter.clone()), &none), repair);
    commit(&mut sink, job.unwrap()).await;
    assert!(health.readiness().ready);
    assert_eq!(stage.landed("cdc_orders", 1).len(), 2);

    stage.target.set_fault(CommitFault::Unavailable);
    let stop = async {
        blocked().await;
        shutdown.cancel();
    };
    let none = HashMap::new();
    let (job, ()) = tokio::join!(processor.replay(request(letter), &none), stop);
    assert!(matches!(job, Err(Stopped::Shutdown)), "{job:?}");
}

/// An order of another time than when it was changed.
fn order_of(id: i64, date: i64, status: &str) -> String {
    source_event("ORDERS", LATER, "u", ("null", &order_row(id, date, status)))
}

/// The shipped SQL, with another option for `orders`.
async fn sql_with_late(late: Late) -> Sql {
    let mut sql = sql().await;
    for table in &mut sql.tables {
        if table.name == "orders" {
            std::sync::Arc::make_mut(table).options.late = late;
        }
    }
    sql
}

/// A day and more after the orders, nothing is dropped yet and all of their windows are closed.
const CLOSED: i64 = 2 * 24 * 60;

/// What a late order, its change and its item do under each policy: dead letters, whether the order
/// is landed, and the order's window in the results.
async fn late_order(late: Late) -> (usize, bool, Vec<String>) {
    let mut stage = Stage::with(sql_with_late(late).await).await;
    stage.send(&[order(1, 0, "new"), item(10, 1, 0)]).await;
    // Of three minutes in a row, because one alone is not believed to be two days ahead.
    let others: Vec<String> = (0..3).map(|at| order(1000 + at, CLOSED + at, "new")).collect();
    stage.send(&others).await;
    let letters = stage.send(&[order_of(3, 1, "late"), order(8, CLOSED, "good")]).await;
    assert!(!stage.landed("cdc_orders", 8).is_empty(), "its neighbour is landed");
    for letter in &letters {
        assert_late(
            letter,
            &order_of(3, 1, "late"),
            &["order_id = 3", "late in sql/tables/orders"],
        );
    }
    let stats = as_text(&stage.target.result("cdc_order_stats")).into_iter();
    let counts = stats.filter(|row| row[0] == "1 day" && row[1].starts_with("2023-11-14"));
    let counts = counts.map(|row| row[5].clone()).collect();
    (letters.len(), !stage.landed("cdc_orders", 3).is_empty(), counts)
}

#[tokio::test]
async fn a_late_event_whose_rows_are_in_memory_is_applied_or_diverted_as_its_table_says() {
    assert_eq!(late_order(Late::Update).await, (0, true, vec!["2".to_owned()]));
    assert_eq!(late_order(Late::Dlq).await, (1, false, vec!["1".to_owned()]));
    assert_eq!(late_order(Late::Drop).await, (0, true, vec!["1".to_owned()]));
}

#[tokio::test]
async fn a_late_event_that_is_dropped_takes_its_neighbours_in_an_array_along_nowhere() {
    let mut stage = Stage::with(sql_with_late(Late::Drop).await).await;
    stage.send(&[order(1, 0, "new"), item(10, 1, 0)]).await;
    let others: Vec<String> = (0..3).map(|at| order(1000 + at, CLOSED + at, "new")).collect();
    stage.send(&others).await;
    let before = stage.len("orders");
    let array = [order(8, CLOSED, "good"), order_of(3, 1, "late"), order(9, CLOSED, "good")];
    assert_eq!(stage.send(&[format!("[{}]", array.join(","))]).await, vec![]);
    for id in [3, 8, 9] {
        assert!(!stage.landed("cdc_orders", id).is_empty(), "{id}");
    }
    assert_eq!(stage.len("orders"), before + 2);
}

#[tokio::test]
async fn an_order_dated_in_the_far_future_closes_no_window_and_moves_nothing_out() {
    let mut stage = Stage::new().await;
    stage.send(&[order(1, 0, "new"), item(10, 1, 0)]).await;
    let in_2099: i64 = 70 * 365 * 24 * 60;
    let wrong_date = source_event("ORDERS", 0, "u", ("null", &order_row(2, in_2099, "new")));
    stage.send(&[wrong_date, order(4, in_2099, "wrong clock too")]).await;
    for epoch in 0..3 {
        let others: Vec<String> =
            (0..500).map(|id| order(1000 + epoch * 500 + id, 1, "new")).collect();
        stage.send(&others).await;
    }
    assert_eq!((stage.len("orders"), stage.len("order_items")), (1503, 1));
    let stats = as_text(&stage.target.result("cdc_order_stats"));
    let is_final = |row: &Vec<String>| row[8] == "true";
    assert!(stats.len() >= 6 && !stats.iter().any(is_final), "{stats:?}");
}
