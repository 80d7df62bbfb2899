//! A restart goes on from the state on disk, and without it from the landing tables.

use tidemark_dev::stack::Settings;

use crate::referee;
use crate::results::sql_edits::publish;
use crate::shop::{Shop, copied_sql};

const KEPT: &str = "going on from the state on disk";
const REPLACED: &str = "the state on disk can't be opened: an empty one replaces it";

/// How often the processor has said so.
fn said(shop: &Shop, text: &str) -> usize {
    let log = std::fs::read_to_string(shop.stack.folder().join("run.log")).expect("a log");
    log.matches(text).count()
}

async fn until_all_is_committed(shop: &Shop) {
    shop.wait_for(shop.stack.published().expect("a count")).await;
}

#[tokio::test]
async fn restarts_and_kills_go_on_from_the_state_and_every_result_is_exact() {
    let shop = Shop::open().await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 2000, "1").await;
    until_all_is_committed(&shop).await;
    shop.end(&mut processor).await;
    assert_eq!(said(&shop, KEPT), 0, "there was nothing to go on from");

    // What comes while nothing runs, and what is killed before it was flushed.
    publish(&shop, 500, "2").await;
    for round in 1..=3 {
        let mut processor = shop.stack.processor(None).expect("a processor");
        publish(&shop, 300, &format!("3{round}")).await;
        until_all_is_committed(&shop).await;
        assert_eq!(said(&shop, KEPT), round, "{}", shop.log_tail("run"));
        processor.kill().await.expect("a kill");
    }

    // A folder that is damaged is of no use, and does no harm.
    let database = shop.stack.folder().join("state/rows");
    for file in std::fs::read_dir(&database).expect("the database") {
        let path = file.expect("a file").path();
        if path.is_file() {
            std::fs::write(path, "damaged").expect("a write");
        }
    }
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 300, "4").await;
    until_all_is_committed(&shop).await;
    assert_eq!((said(&shop, KEPT), said(&shop, REPLACED)), (3, 1), "{}", shop.log_tail("run"));
    shop.end(&mut processor).await;
    referee::all_is_exact(&shop, shop.stack.published().expect("a count")).await;
    shop.stack.stop().await.expect("the servers end");
}

/// The shipped SQL, with landing tables of current rows, which a start makes.
fn of_current_rows(into: &std::path::Path) -> std::path::PathBuf {
    let sql = copied_sql(into);
    let mut drops = String::new();
    for table in ["orders", "order_items", "customers", "products"] {
        let file = sql.join("tables").join(format!("{table}.sql"));
        let text = std::fs::read_to_string(&file).expect("a table");
        std::fs::write(&file, text.replace("WITH (", "WITH (landing = 'current', "))
            .expect("written");
    }
    let extracted =
        ["order_items_extracted", "order_details_extracted", "customer_addresses_extracted"];
    for table in ["orders", "order_items", "customers", "products"].into_iter().chain(extracted) {
        drops += &format!("DROP VIEW cdc_{table}_current; DROP TABLE cdc_{table};\n");
    }
    std::fs::write(sql.join("ods/90_current_rows.sql"), drops).expect("written");
    sql
}

#[tokio::test]
async fn tables_of_current_rows_are_exact_over_kills_and_a_loss_of_the_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = of_current_rows(folder.path());
    let settings = |settings| Settings { sql, checkpoint_interval: "200ms", ..settings };
    let shop = Shop::open_with(settings).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 2000, "1").await;
    until_all_is_committed(&shop).await;
    shop.end(&mut processor).await;
    for round in 1..=6 {
        // What comes while nothing runs, and while something does.
        publish(&shop, 150, &format!("2{round}")).await;
        let mut processor = shop.stack.processor(None).expect("a processor");
        publish(&shop, 300, &format!("3{round}")).await;
        until_all_is_committed(&shop).await;
        processor.kill().await.expect("a kill");
    }
    assert!(said(&shop, KEPT) >= 6, "{}", shop.log_tail("run"));
    assert!(shop.number("SELECT count(*) FROM tidemark_deleted").await > 0, "rows were deleted");
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 300, "4").await;
    until_all_is_committed(&shop).await;
    shop.end(&mut processor).await;
    referee::results_are_exact(&shop, shop.stack.published().expect("a count")).await;

    std::fs::remove_dir_all(shop.stack.folder().join("state")).expect("the state goes");
    let loads = said(&shop, KEPT);
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 500, "5").await;
    until_all_is_committed(&shop).await;
    shop.end(&mut processor).await;
    assert_eq!(said(&shop, KEPT), loads, "all rows were read");
    referee::results_are_exact(&shop, shop.stack.published().expect("a count")).await;
    shop.stack.stop().await.expect("the servers end");
}
