//! Rows that ttl dropped come back when they are needed, if no window over them was dropped.

use super::late_events::*;
use super::*;
use crate::model::{DeadLetter, Operation};

/// The shipped SQL without its windows.
async fn sql_without_windows() -> Sql {
    let mut sql = sql().await;
    sql.transforms.retain(|file| file.name != "order_stats");
    for file in &mut sql.transforms {
        // The one with a window per order, which needs none of its neighbours.
        file.text = file.text.replace(
            "date_bin(INTERVAL '5 minutes', o.order_date, TIMESTAMP '1970-01-01 00:00:00')",
            "o.order_date",
        );
    }
    sql
}

/// Order 1 with items 10 and 11, and order 2 with item 20, all dropped.
async fn dropped() -> Stage {
    let mut stage = Stage::with(sql_without_windows().await).await;
    let shop =
        [order(1, 0, "new"), item(10, 1, 0), item(11, 1, 0), order(2, 0, "new"), item(20, 2, 0)];
    assert_eq!(stage.send(&shop).await, vec![]);
    stage.let_time_pass().await;
    assert_eq!((stage.len("orders"), stage.len("order_items")), (500, 0));
    stage
}

/// Item count of an order, and status per item, as the targets show them.
fn shown_of(stage: &Stage, order: &str) -> (Vec<String>, Vec<(String, String)>) {
    let enriched = as_text(&stage.target.result("cdc_orders_enriched")).into_iter();
    let counts = enriched.filter(|row| row[0] == order).map(|row| row[5].clone()).collect();
    let lines = as_text(&stage.target.result("cdc_order_lines_enriched")).into_iter();
    let lines = lines.filter(|row| row[1] == order).map(|row| (row[0].clone(), row[3].clone()));
    (counts, lines.collect())
}

fn count(count: &str) -> Vec<String> {
    vec![count.to_owned()]
}

fn lines(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|(item, status)| ((*item).to_owned(), (*status).to_owned())).collect()
}

const NONE: Vec<DeadLetter> = Vec::new();

#[tokio::test]
async fn a_changed_order_comes_back_with_its_items() {
    let mut stage = dropped().await;
    for status in ["paid", "sent"] {
        assert_eq!(stage.send(&[order(1, LATER, status)]).await, NONE);
        let expected = (count("2"), lines(&[("10", status), ("11", status)]));
        assert_eq!(shown_of(&stage, "1"), expected);
        assert_eq!(shown_of(&stage, "2"), (count("1"), lines(&[("20", "new")])));
        assert_eq!((stage.len("orders"), stage.len("order_items")), (501, 2));
        stage.restart().await;
    }
}

#[tokio::test]
async fn an_item_of_a_dropped_order_brings_order_and_items_back() {
    let mut stage = dropped().await;
    // Another item, one that moves from order to order, and a change of what comes back so.
    let changes = [item(12, 1, LATER), item(20, 1, LATER), order(1, LATER, "paid")];
    assert_eq!(stage.send(&changes).await, NONE);
    let items = ["10", "11", "12", "20"].map(|item| (item, "paid"));
    assert_eq!(shown_of(&stage, "1"), (count("4"), lines(&items)));
    assert_eq!(shown_of(&stage, "2"), (count("0"), vec![]));
}

#[tokio::test]
async fn a_dropped_order_can_be_deleted_and_stays_deleted() {
    let mut stage = dropped().await;
    let delete = source_event("ORDERS", LATER, "d", (&order_row(1, 0, "new"), "null"));
    assert_eq!(stage.send(&[delete]).await, NONE);
    assert_eq!(shown_of(&stage, "1"), (vec![], vec![]));
    // Its items don't bring it back.
    assert_eq!(stage.send(&[item(10, 1, LATER), item(13, 1, LATER)]).await, NONE);
    assert_eq!(shown_of(&stage, "1"), (vec![], vec![]));
    assert_eq!(stage.landed("cdc_orders", 1), [Operation::Update, Operation::Delete]);
    // Made anew, it has all of its items.
    assert_eq!(stage.send(&[order(1, LATER, "again")]).await, NONE);
    let items = ["10", "11", "13"].map(|item| (item, "again"));
    assert_eq!(shown_of(&stage, "1"), (count("3"), lines(&items)));
}

#[tokio::test]
async fn a_row_that_came_back_is_dropped_again_after_its_ttl() {
    let mut stage = dropped().await;
    for round in 0..2 {
        assert_eq!(stage.send(&[item(10, 1, LATER)]).await, NONE);
        assert_eq!((stage.len("orders"), stage.len("order_items")), (501, 2), "round {round}");
        let later = LATER + 100 * (round + 1);
        for _ in 0..3 {
            let others: Vec<String> = (1000..1500).map(|id| order(id, later, "new")).collect();
            stage.send(&others).await;
        }
        assert_eq!((stage.len("orders"), stage.len("order_items")), (500, 0), "round {round}");
        assert_eq!(shown_of(&stage, "1").0, count("2"));
    }
}

#[tokio::test]
async fn an_order_that_comes_long_after_its_items_or_again_finds_them() {
    let mut stage = Stage::with(sql_without_windows().await).await;
    let gone = source_event("ORDERS", 0, "d", (&order_row(5, 0, "new"), "null"));
    // Item 40 waits for its order; order 5 is deleted, and its item is not.
    let shop = [item(40, 4, 0), order(5, 0, "new"), item(50, 5, 0), gone];
    assert_eq!(stage.send(&shop).await, NONE);
    stage.let_time_pass().await;
    assert_eq!((stage.len("orders"), stage.len("order_items")), (500, 0));
    let deleted = source_event("ORDERS", LATER, "d", (&order_row(1000, 0, "new"), "null"));
    assert_eq!(stage.send(&[order(4, LATER, "new"), order(5, LATER, "back"), deleted]).await, NONE);
    assert_eq!(shown_of(&stage, "4"), (count("1"), lines(&[("40", "new")])));
    assert_eq!(shown_of(&stage, "5"), (count("1"), lines(&[("50", "back")])));
}

#[tokio::test]
async fn an_order_that_was_just_deleted_finds_its_dropped_items_when_it_is_made_anew() {
    let mut stage = dropped().await;
    // Both are remembered as deleted, and ttl drops the item at once, because its order is gone.
    let delete = source_event("ORDERS", LATER, "d", (&order_row(1, 0, "new"), "null"));
    assert_eq!(stage.send(&[delete]).await, NONE);
    let later = LATER + 100;
    for _ in 0..3 {
        let others: Vec<String> = (2000..2500).map(|id| order(id, later, "new")).collect();
        stage.send(&others).await;
    }
    assert_eq!(stage.len("order_items"), 0);
    assert_eq!(stage.send(&[order(1, later, "again")]).await, NONE);
    assert_eq!(shown_of(&stage, "1"), (count("2"), lines(&[("10", "again"), ("11", "again")])));
}

/// A change of an order or an item; customers and products never leave memory, and what they change in
/// dropped orders is not shown.
fn shop_change() -> impl Strategy<Value = Change> {
    let of_shop = |change: &Change| match change {
        Change::Upsert { table, .. }
        | Change::Delete { table, .. }
        | Change::Move { table, .. }
        | Change::Rename { table, .. } => *table < 2,
        Change::Unavailable { .. } => true,
        // Results of rows that ttl has dropped keep their last values.
        Change::Truncate { .. } => false,
    };
    change().prop_filter("orders and items", of_shop)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn what_ttl_drops_in_between_makes_no_difference(
        changes in prop::collection::vec(shop_change(), 1..40),
        size in 1usize..20,
        restarts in prop::collection::vec(any::<bool>(), 4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::with(sql_without_windows().await).await;
            let (payloads, mut sent) = (payloads(&changes), Vec::new());
            for (at, part) in payloads.chunks(size.max(payloads.len() / 4)).enumerate() {
                assert_eq!(stage.send(part).await, NONE);
                sent.extend_from_slice(part);
                let later = LATER * (1 + at as i64);
                for _ in 0..3 {
                    // The last one a minute later: time goes on there.
                    let date = |id: i64| later + i64::from(id == 1499);
                    let others: Vec<String> = (1000..1500).map(|id| order(id, date(id), "new")).collect();
                    assert_eq!(stage.send(&others).await, NONE);
                    sent.extend(others);
                }
                assert_eq!((stage.len("orders"), stage.len("order_items")), (500, 0));
                if restarts.get(at) == Some(&true) {
                    stage.restart().await;
                }
            }
            let expected = from_scratch(&sql_without_windows().await, &messages(&sent)).await;
            for name in ["orders_enriched", "order_lines_enriched"] {
                let shown = as_text(&stage.target.result(&format!("cdc_{name}")));
                assert_eq!(&shown, &expected[name], "{name}");
            }
        });
    }
}
