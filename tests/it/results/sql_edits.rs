//! The SQL folder is edited while the processor runs.

use tidemark_dev::stack::Settings;

use crate::end_to_end::get;
use crate::referee;
use crate::shop::{Shop, copied_sql, pause};

pub(crate) async fn publish(shop: &Shop, events: u64, seed: &str) {
    let arguments = ["--rate", "max", "--events", &events.to_string(), "--seed", seed];
    let mut generator = shop.stack.generator(&arguments).expect("a generator");
    assert!(shop.wait_for_end(&mut generator).await, "{}", shop.log_tail("generate"));
}

const TIERS: &str = "SELECT tier, COUNT(*) AS customers, COUNT(DISTINCT region) AS regions FROM customers GROUP BY tier";
const REGIONS: &str =
    "SELECT tier, COUNT(*) AS customers, MAX(region) AS regions FROM customers GROUP BY tier";

fn file(select: &str) -> String {
    format!("-- writes: postgres tiers\n-- key: tier\n{select}\n")
}

/// Waits until the table is what Postgres itself makes of the SELECT.
async fn until_exact(shop: &Shop, select: &str) {
    let select = select.replace("FROM customers", "FROM cdc_customers_current");
    let (shown, computed) = (
        "SELECT tier, customers, regions::text FROM tiers".to_owned(),
        format!("SELECT tier, customers, regions::text FROM ({select}) computed"),
    );
    let different = format!(
        "SELECT count(*) FROM (({shown} EXCEPT ALL {computed}) UNION ALL ({computed} EXCEPT ALL {shown})) d"
    );
    let exists = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'tiers'";
    let started = std::time::Instant::now();
    while shop.number(exists).await == 0 || shop.number(&different).await > 0 {
        assert!(started.elapsed().as_secs() < 120, "not exact\n{}", shop.log_tail("run"));
        pause().await;
    }
}

async fn until_logged(shop: &Shop, text: &str) {
    let path = shop.stack.folder().join("run.log");
    let started = std::time::Instant::now();
    while !std::fs::read_to_string(&path).unwrap_or_default().contains(text) {
        assert!(started.elapsed().as_secs() < 60, "no '{text}'\n{}", shop.log_tail("run"));
        pause().await;
    }
}

/// Waits until the status page says that an edit is refused, while everything that ran goes on.
async fn until_refused(shop: &Shop, why: &str) {
    let started = std::time::Instant::now();
    loop {
        let ready = get(shop, "/ready").await.map_or_else(String::new, |(_, ready)| ready);
        if ready.contains("\"edit\"") && ready.contains(why) && ready.contains("\"ready\":true") {
            return;
        }
        assert!(started.elapsed().as_secs() < 60, "{ready}\n{}", shop.log_tail("run"));
        pause().await;
    }
}

/// How often the processor has planned the folder, once it has.
async fn plans(shop: &Shop) -> u64 {
    let started = std::time::Instant::now();
    loop {
        let (_, page) = get(shop, "/metrics").await.expect("metrics");
        let line = page.lines().find_map(|line| line.strip_prefix("cdc_sql_plans_total "));
        if let Some(count) = line {
            return count.parse().expect("a number");
        }
        assert!(started.elapsed().as_secs() < 60, "no count in\n{page}");
        pause().await;
    }
}

#[tokio::test]
async fn an_edit_is_taken_over_and_a_broken_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let shop = Shop::open_with(|settings| Settings { sql: sql.clone(), ..settings }).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 2000, "1").await;
    let path = sql.join("transforms/tiers.sql");
    let write = |select: &str| std::fs::write(&path, file(select)).expect("an edit");

    let plans = plans(&shop).await;
    assert_eq!(plans, 1, "the folder is planned once at the start");
    write(TIERS);
    until_exact(&shop, TIERS).await;
    assert_eq!(self::plans(&shop).await, plans + 1, "an edit is planned once");
    write("SELECT tier, COUNT(*) AS customers, nothing AS regions FROM customers GROUP BY tier");
    until_logged(&shop, "tiers.sql:3:").await;
    publish(&shop, 500, "2").await;
    until_exact(&shop, TIERS).await;

    // The column would have to become a text, which the table can't take.
    write(REGIONS);
    until_logged(&shop, "tiers.regions").await;
    until_refused(&shop, "tiers.regions").await;
    let (_, metrics) = get(&shop, "/metrics").await.expect("metrics");
    assert!(metrics.contains("cdc_sql_edit_refused 1"), "{metrics}");
    // The file stays as it is: the target is looked at again.
    shop.query("DROP TABLE tiers").await;
    until_exact(&shop, REGIONS).await;
    let (_, ready) = get(&shop, "/ready").await.expect("a page");
    assert!(!ready.contains("\"edit\""), "{ready}");

    // What changes while nobody keeps the table is caught up with.
    std::fs::remove_file(&path).expect("a removal");
    until_logged(&shop, "its SQL file is gone").await;
    publish(&shop, 500, "3").await;
    write(REGIONS);
    until_exact(&shop, REGIONS).await;

    let published = shop.stack.published().expect("a count");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_start_whose_files_are_refused_goes_on_with_those_that_ran_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let shop = Shop::open_with(|settings| Settings { sql: sql.clone(), ..settings }).await;
    let path = sql.join("transforms/tiers.sql");
    std::fs::write(&path, file(TIERS)).expect("a file");
    let mut processor = shop.stack.processor(None).expect("a processor");
    publish(&shop, 1000, "1").await;
    shop.wait_for(shop.stack.published().expect("a count")).await;
    until_exact(&shop, TIERS).await;
    shop.end(&mut processor).await;

    // A mistake of the file, a target that it does not fit, and a column that a new file would wait for.
    let broken = "SELECT tier, COUNT(*) AS customers, FROM customers";
    let typo = TIERS.replace("DISTINCT region", "DISTINCT regoin");
    let edits =
        [("2", broken, "tiers.sql:3:"), ("3", REGIONS, "tiers.regions"), ("4", &typo, "regoin")];
    for (seed, select, why) in edits {
        std::fs::write(&path, file(select)).expect("an edit");
        let mut processor = shop.stack.processor(None).expect("a processor");
        until_refused(&shop, why).await;
        publish(&shop, 500, seed).await;
        shop.wait_for(shop.stack.published().expect("a count")).await;
        until_exact(&shop, TIERS).await;
        shop.end(&mut processor).await;
    }
    // Without a version before, there is nothing to go on with.
    shop.query("DELETE FROM tidemark_sql_files").await;
    std::fs::write(&path, file(broken)).expect("an edit");
    let mut processor = shop.stack.processor(None).expect("a processor");
    assert!(!shop.wait_for_end(&mut processor).await, "it ends with the mistake");
    shop.stack.stop().await.expect("the servers end");
}
