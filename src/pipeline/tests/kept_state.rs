//! A start goes on from the state on disk, if that is of the epochs of the ledger.

use super::late_events::*;
use super::*;
use crate::model::DeadLetter;
use crate::sink::memory::RowsRead;
use crate::transform::SqlFile;

const NONE: Vec<DeadLetter> = Vec::new();

/// Two hundred orders with an item each, on disk; what was read for that is forgotten.
async fn kept() -> Stage {
    let mut stage = Stage::with(sql().await).await;
    let orders = (1..=200).map(|id| order(id, 0, "new"));
    let shop: Vec<String> = orders.chain((1..=200).map(|id| item(id, id, 0))).collect();
    assert_eq!(stage.send(&shop).await, NONE);
    stage.flush();
    stage.target.take_rows_read();
    stage
}

/// The status of an order as its line shows it.
fn status_of(stage: &Stage, order: &str) -> Vec<String> {
    let lines = as_text(&stage.target.result("cdc_order_lines_enriched")).into_iter();
    lines.filter(|row| row[1] == order).map(|row| row[3].clone()).collect()
}

#[tokio::test]
async fn a_restart_reads_what_came_after_the_state_and_nothing_else() {
    let mut stage = kept().await;
    assert_eq!(stage.send(&[order(7, LATER, "paid"), order(300, LATER, "new")]).await, NONE);
    stage.restart_with_state().await;
    assert_eq!(stage.target.take_rows_read(), RowsRead { newest: 0, changes: 2 });
    // What was flushed, what came after it, and what comes now: all are known.
    let changes = [item(500, 7, LATER), item(501, 8, LATER), item(502, 300, LATER)];
    assert_eq!(stage.send(&changes).await, NONE);
    assert_eq!(status_of(&stage, "7"), ["paid", "paid"]);
    assert_eq!(status_of(&stage, "8"), ["new", "new"]);
    assert_eq!(status_of(&stage, "300"), ["new"]);
    stage.flush();
    stage.restart_with_state().await;
    assert_eq!(stage.target.take_rows_read(), RowsRead::default());
    assert_eq!(stage.send(&[order(7, LATER, "sent")]).await, NONE);
    assert_eq!(status_of(&stage, "7"), ["sent", "sent"]);
}

#[tokio::test]
async fn results_go_on_from_the_disk_unless_they_are_new() {
    let mut stage = kept().await;
    stage.restart_with_state().await;
    let results: BTreeSet<String> =
        stage.processor.results().iter().map(|result| result.name.clone()).collect();
    let shipped: BTreeSet<&str> = results.iter().map(String::as_str).collect();
    assert_eq!(stage.processor.followed(), shipped);
    let mut edited = sql().await;
    let text = "-- writes: postgres cdc_statuses\n-- key: status\nSELECT status, COUNT(*) AS orders FROM orders GROUP BY status";
    let (path, name) = ("statuses.sql".into(), "statuses".to_owned());
    edited.transforms.push(SqlFile { path, name, text: text.to_owned() });
    stage.edit_with_state(edited).await;
    assert_eq!(stage.processor.followed(), shipped, "all but the new one");
    assert_eq!(stage.send(&[order(7, LATER, "paid")]).await, NONE);
    let counts = as_text(&stage.target.result("cdc_statuses"));
    let expected = [["new", "199"], ["paid", "1"]].map(|row| row.map(str::to_owned).to_vec());
    assert_eq!(counts, expected.into());
    // What is not flushed is followed as well, by the groups of the new one too.
    stage.flush();
    assert_eq!(stage.send(&[order(8, LATER, "paid"), order(10, LATER, "paid")]).await, NONE);
    stage.restart_with_state().await;
    assert_eq!(stage.processor.followed().len(), shipped.len() + 1);
    assert_eq!(stage.send(&[order(9, LATER, "paid")]).await, NONE);
    let counts = as_text(&stage.target.result("cdc_statuses"));
    let expected = [["new", "196"], ["paid", "4"]].map(|row| row.map(str::to_owned).to_vec());
    assert_eq!(counts, expected.into());
}

#[tokio::test]
async fn dead_letters_that_came_back_since_are_not_missed() {
    let mut stage = kept().await;
    stage.replay(&order(400, 0, "replayed")).await;
    stage.restart_with_state().await;
    assert_eq!(stage.target.take_rows_read(), RowsRead { newest: 401, changes: 0 });
}

#[tokio::test]
async fn a_state_of_other_epochs_than_the_ledger_is_not_used() {
    let mut stage = kept().await;
    // Another database, which has none of it.
    stage.target = MemoryTarget::default();
    stage.restart_with_state().await;
    assert_eq!(stage.send(&[item(1, 1, LATER)]).await, NONE);
    assert_eq!(status_of(&stage, "1"), [""; 0], "its order is not in this database");
    // And one that has as many epochs of somebody else.
    let mut other = Stage::with(sql().await).await;
    assert_eq!(other.send(&[order(1, LATER, "other")]).await, NONE);
    let mut stage = kept().await;
    stage.target = other.target.clone();
    stage.restart_with_state().await;
    assert_eq!(stage.target.take_rows_read(), RowsRead { newest: 1, changes: 0 });
}

#[tokio::test]
async fn a_table_of_another_shape_is_read_anew_and_the_others_are_not() {
    let mut stage = kept().await;
    // Its rows are looked up by another column from now on.
    let mut edited = sql().await;
    let select = "SELECT o.order_id, c.name FROM orders o JOIN customers c ON c.tier = o.status";
    let text = format!("-- writes: postgres cdc_tiers\n-- key: order_id\n{select}");
    let (path, name) = ("tiers.sql".into(), "tiers".to_owned());
    edited.transforms.push(SqlFile { path, name, text });
    stage.edit_with_state(edited).await;
    assert_eq!(stage.target.take_rows_read(), RowsRead { newest: 200, changes: 0 });
    assert_eq!(stage.send(&[order(7, LATER, "paid")]).await, NONE);
    assert_eq!(status_of(&stage, "7"), ["paid"]);
}

#[tokio::test]
async fn deletes_and_truncates_are_kept_as_well() {
    let mut stage = kept().await;
    let delete = source_event("ORDERS", LATER, "d", (&order_row(5, 0, "new"), "null"));
    assert_eq!(stage.send(&[delete]).await, NONE);
    stage.flush();
    stage.restart_with_state().await;
    let truncate = source_event("ORDER_ITEMS", LATER, "t", ("null", "null"));
    assert_eq!(stage.send(&[truncate]).await, NONE);
    assert_eq!(as_text(&stage.target.result("cdc_order_lines_enriched")).len(), 0);
    // It takes all that was on disk away, and a kill before the next flush does not bring it back.
    stage.restart_with_state().await;
    assert_eq!(stage.send(&[order(9, LATER, "paid"), item(900, 9, LATER)]).await, NONE);
    assert_eq!(status_of(&stage, "9"), ["paid"]);
    stage.flush();
    stage.restart_with_state().await;
    assert_eq!(stage.send(&[order(9, LATER, "sent")]).await, NONE);
    assert_eq!(status_of(&stage, "9"), ["sent"]);
    assert_eq!(as_text(&stage.target.result("cdc_order_lines_enriched")).len(), 1);
}
