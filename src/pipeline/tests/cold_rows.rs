//! Rows that have left memory by their ttl change as all others do, and results follow.

use super::late_events::*;
use super::*;
use crate::model::{DeadLetter, Operation};

/// Order 1 with items 10 and 11, and order 2 with item 20, none of them in memory.
async fn cold() -> Stage {
    let mut stage = Stage::with(sql().await).await;
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
async fn a_change_of_an_old_order_reaches_all_of_its_results() {
    let mut stage = cold().await;
    for status in ["paid", "sent"] {
        assert_eq!(stage.send(&[order(1, LATER, status)]).await, NONE);
        let expected = (count("2"), lines(&[("10", status), ("11", status)]));
        assert_eq!(shown_of(&stage, "1"), expected);
        assert_eq!(shown_of(&stage, "2"), (count("1"), lines(&[("20", "new")])));
        assert_eq!(stage.len("order_items"), 0);
        let windows = as_text(&stage.target.result("cdc_order_stats"));
        let of_first_day =
            |row: &&Vec<String>| row[0] == "1 day" && row[1].starts_with("2023-11-14");
        let statuses: Vec<_> =
            windows.iter().filter(of_first_day).map(|row| row[2].clone()).collect();
        assert!(!statuses.is_empty(), "{windows:?}");
        stage.restart().await;
        stage.processor.evict_all();
    }
}

#[tokio::test]
async fn an_item_of_an_old_order_changes_what_is_shown_of_it() {
    let mut stage = cold().await;
    // Another item, one that moves from order to order, and a change of what comes back so.
    let changes = [item(12, 1, LATER), item(20, 1, LATER), order(1, LATER, "paid")];
    assert_eq!(stage.send(&changes).await, NONE);
    let items = ["10", "11", "12", "20"].map(|item| (item, "paid"));
    assert_eq!(shown_of(&stage, "1"), (count("4"), lines(&items)));
    assert_eq!(shown_of(&stage, "2"), (count("0"), vec![]));
}

#[tokio::test]
async fn an_old_order_can_be_deleted_and_stays_deleted() {
    let mut stage = cold().await;
    let delete = source_event("ORDERS", LATER, "d", (&order_row(1, 0, "new"), "null"));
    assert_eq!(stage.send(&[delete]).await, NONE);
    assert_eq!(shown_of(&stage, "1"), (vec![], vec![]));
    // Its items don't bring it back.
    assert_eq!(stage.send(&[item(10, 1, LATER), item(13, 1, LATER)]).await, NONE);
    assert_eq!(shown_of(&stage, "1"), (vec![], vec![]));
    assert_eq!(stage.landed("cdc_orders", 1), [Operation::Update, Operation::Delete]);
    // Created again, it has all of its items.
    assert_eq!(stage.send(&[order(1, LATER, "again")]).await, NONE);
    let items = ["10", "11", "13"].map(|item| (item, "again"));
    assert_eq!(shown_of(&stage, "1"), (count("3"), lines(&items)));
}

#[tokio::test]
async fn an_order_that_comes_long_after_its_items_or_again_finds_them() {
    let mut stage = Stage::with(sql().await).await;
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
async fn a_customer_changes_what_old_orders_show() {
    let mut stage = cold().await;
    let row = r#"{"CUSTOMER_ID":5,"NAME":"Ada","TIER":"gold"}"#;
    let customer = source_event("CUSTOMERS", LATER, "u", ("null", row));
    assert_eq!(stage.send(&[customer]).await, NONE);
    let lines = as_text(&stage.target.result("cdc_order_lines_enriched"));
    assert!(lines.iter().all(|row| row.contains(&"gold".to_owned())), "{lines:?}");
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn an_event_of_a_closed_window_changes_it_whatever_is_in_memory() {
    let mut stage = cold().await;
    let late = source_event("ORDERS", LATER, "u", ("null", &order_row(3, 1, "late")));
    assert_eq!(stage.send(&[late]).await, NONE);
    let stats = as_text(&stage.target.result("cdc_order_stats")).into_iter();
    let day = stats.filter(|row| row[0] == "1 day" && row[1].starts_with("2023-11-14"));
    let counts: Vec<String> = day.map(|row| row[5].clone()).collect();
    assert_eq!(counts, ["3"]);
}
