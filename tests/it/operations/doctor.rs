//! What `tidemark doctor` says about everything that can be wrong, and whether its fixes heal it.

use serde_json::Value;
use tidemark_dev::stack::Settings;
use tokio::process::Command;

use crate::end_to_end::publish;
use crate::shop::{Shop, copied_sql};

/// What the doctor found, and whether it was content.
pub(crate) async fn examined(shop: &Shop, config: &str) -> (bool, Vec<Value>) {
    examined_with(shop, config, &[]).await
}

async fn examined_with(shop: &Shop, config: &str, options: &[&str]) -> (bool, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    command.args(["doctor", "--json", "--config"]).arg(shop.stack.folder().join(config));
    command.args(options);
    let output = command.kill_on_drop(true).output().await.expect("the command runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (output.status.success(), lines)
}

/// The problems, each with its fix.
async fn problems(shop: &Shop, config: &str) -> Vec<(String, String)> {
    let (is_content, found) = examined(shop, config).await;
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let bad = found.iter().filter(|line| line["verdict"] == "problem");
    let problems: Vec<(String, String)> =
        bad.map(|line| (text(&line["what"]), text(&line["fix"]))).collect();
    assert_eq!(is_content, problems.is_empty(), "{problems:?}");
    problems
}

/// A configuration that differs from the stack's.
fn changed(shop: &Shop, name: &str, changes: &[(&str, &str)]) {
    let mut text =
        std::fs::read_to_string(shop.stack.folder().join("tidemark.toml")).expect("text");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replace(from, to);
    }
    std::fs::write(shop.stack.folder().join(name), text).expect("written");
}

/// A stack whose tables are there.
async fn started(sql: &std::path::Path) -> Shop {
    let sql = sql.to_owned();
    let shop = Shop::open_with(|settings| Settings { sql, ..settings }).await;
    let published = publish(&shop, &["--rate", "max", "--events", "100"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    shop
}

/// Changes of the configuration, what the doctor says of them, and its fix.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

/// Another user of the queue.
const STRANGER: (&str, &str) = (
    "username = 'demo'\npassword = 'demo'\nqueue",
    "username = 'stranger'\npassword = 'demo'\nqueue",
);

/// What somebody does to the tables, and what the doctor says about it.
const HURTS: [(&str, &str); 7] = [
    (
        "ALTER TABLE cdc_orders DROP COLUMN status CASCADE",
        "cdc_orders.status: the column is missing",
    ),
    (
        "DROP VIEW cdc_order_items_current; ALTER TABLE cdc_order_items ALTER quantity TYPE text",
        "cdc_order_items.quantity: the column is text, which cannot take",
    ),
    (
        "ALTER TABLE cdc_customers ADD must TEXT NOT NULL DEFAULT 'x'; ALTER TABLE cdc_customers ALTER must DROP DEFAULT",
        "cdc_customers.must: is NOT NULL without a default",
    ),
    (
        "ALTER TABLE cdc_orders_enriched DROP CONSTRAINT cdc_orders_enriched_pkey",
        "cdc_orders_enriched: needs a primary key or unique index on exactly (order_id)",
    ),
    (
        "ALTER TABLE cdc_order_lines_enriched DROP CONSTRAINT cdc_order_lines_enriched_pkey; \
         CREATE UNIQUE INDEX ON cdc_order_lines_enriched (item_id); \
         ALTER TABLE cdc_order_lines_enriched ALTER item_id DROP NOT NULL",
        "cdc_order_lines_enriched: (item_id) must be NOT NULL",
    ),
    (
        "ALTER TABLE cdc_products DROP COLUMN category CASCADE; \
         ALTER TABLE cdc_products ADD category TEXT GENERATED ALWAYS AS (name) STORED",
        "cdc_products.category: the column is generated",
    ),
    ("DROP INDEX cdc_order_items_newest", "cdc_order_items has no index on (item_id, change_seq)"),
];

#[tokio::test]
async fn the_fix_of_each_broken_table_heals_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let shop = started(&sql).await;
    assert_eq!(problems(&shop, "tidemark.toml").await, []);
    for (hurt, says) in HURTS {
        shop.query(hurt).await;
        let mut found = problems(&shop, "tidemark.toml").await;
        assert!(found.iter().any(|(what, _)| what.contains(says)), "{hurt}: {found:?}");
        // A new table has no index yet.
        for _ in 0..2 {
            for (_, fix) in &found {
                shop.query(fix).await;
            }
            found = problems(&shop, "tidemark.toml").await;
        }
        assert_eq!(found, [], "{hurt}");
    }
    // A table that the start makes by itself is no problem.
    shop.query("DROP TABLE cdc_order_stats; DROP TABLE cdc_audit_log CASCADE").await;
    assert_eq!(problems(&shop, "tidemark.toml").await, []);
    let (_, found) = examined(&shop, "tidemark.toml").await;
    let rights = found.iter().find(|line| line["what"].to_string().contains("that are there"));
    let rights = rights.expect("a line about rights")["what"].to_string();
    let forbidden = [("[sink.postgres]\n", "[sink.postgres]\ncreate_tables = false\n")];
    changed(&shop, "strict.toml", &forbidden);
    let found = problems(&shop, "strict.toml").await;
    let makes = |table: &str| {
        let makes = format!("CREATE TABLE IF NOT EXISTS \"public\".\"{table}\"");
        found.iter().find(|(_, fix)| fix.starts_with(&makes)).expect("a statement").1.clone()
    };
    assert_eq!(found.len(), 2, "{found:?}");
    shop.query(&makes("cdc_order_stats")).await;
    let landing = makes("cdc_audit_log");
    assert!(landing.contains("CREATE VIEW") && landing.contains("UNIQUE"), "{landing}");
    shop.query(&landing).await;
    assert_eq!(problems(&shop, "strict.toml").await, []);
    let (_, found) = examined(&shop, "strict.toml").await;
    let all = found.iter().find(|line| line["what"].to_string().contains("that are there"));
    assert_ne!(all.expect("a line about rights")["what"].to_string(), rights, "two tables more");

    // A file that is still to be applied is named, and everything else is looked at all the same.
    std::fs::write(sql.join("ods/95_later.sql"), "ALTER TABLE cdc_products ADD x int")
        .expect("written");
    std::fs::write(sql.join("ods/96_empty.sql"), "-- to come").expect("written");
    shop.query("ALTER TABLE cdc_orders ALTER order_date TYPE text").await;
    let (_, found) = examined(&shop, "tidemark.toml").await;
    let said = |text: &str| found.iter().any(|line| line["what"].to_string().contains(text));
    assert!(said("applies 1 file(s) of sql/ods: 95_later"), "{found:?}");
    assert!(said("sql/ods/96_empty.sql has no statement"), "{found:?}");
    let mut found = problems(&shop, "tidemark.toml").await;
    assert!(found[0].0.contains("cdc_orders.order_date: the column is text"), "{found:?}");
    shop.query(&found.remove(0).1).await;
    assert_eq!(problems(&shop, "tidemark.toml").await, []);

    std::fs::write(sql.join("ods/03_dead_letters.sql"), "SELECT 1").expect("written");
    let found = problems(&shop, "tidemark.toml").await;
    assert!(found[0].1.contains("restore the text of sql/ods/03_dead_letters"), "{found:?}");
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_user_without_rights_is_told_the_grants() {
    let shop = started(&crate::shop::sql_folder()).await;
    shop.query(
        "CREATE ROLE limited LOGIN CONNECTION LIMIT 2; REVOKE ALL ON SCHEMA public FROM PUBLIC",
    )
    .await;
    let url = shop.stack.postgres.url();
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let limited = format!("{scheme}://limited@{}", rest.rsplit_once('@').map_or(rest, |(_, r)| r));
    changed(&shop, "limited.toml", &[(&url, &limited)]);

    shop.query("DROP TABLE tidemark_outbox").await;
    // All of it in one round.
    for (what, fix) in problems(&shop, "limited.toml").await {
        if what.contains("user limited may open") {
            assert!(fix.starts_with("ALTER ROLE \"limited\" CONNECTION LIMIT"), "{fix}");
            shop.query("ALTER ROLE limited CONNECTION LIMIT 20").await;
            continue;
        }
        assert!(fix.starts_with("GRANT "), "{what}: {fix}");
        shop.query(&fix).await;
    }
    assert_eq!(problems(&shop, "limited.toml").await, []);
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn what_is_not_there_or_not_ours_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let mut shop = started(&sql).await;
    let checkpoints = format!("url = '{}'", shop.stack.checkpoints().display());
    let in_the_way = folder.path().join("file");
    std::fs::write(&in_the_way, "").expect("written");
    let no_folder = format!("url = '{}/below'", in_the_way.display());
    let broker = shop.stack.broker_url();
    let cases: [Case<'_>; 5] = [
        (&[("queue = 'cdc'", "queue = 'other'")], "no queue 'other'", "set provision = true"),
        (&[(&broker, "tcp://127.0.0.1:1")], "no connection to the broker", "start the broker"),
        (&[(&checkpoints, &no_folder)], "", "let checkpoint.url name a folder"),
        (&[("pipeline = 'sales'", "pipeline = ''")], "pipeline", "correct "),
        (&[STRANGER], "refused the login", "correct username"),
    ];
    for (changes, says, fix) in cases {
        let is_login = says.contains("login");
        if is_login {
            let place = shop.stack.folder().join("broker.toml");
            let config = std::fs::read_to_string(&place).expect("a configuration");
            std::fs::write(&place, config + "[users]\ndemo = 'demo'\n").expect("written");
            shop.stack.kill_broker().await.expect("a kill");
            shop.stack.start_broker().await.expect("a broker");
        }
        changed(&shop, "case.toml", changes);
        let found = problems(&shop, "case.toml").await;
        assert_eq!(found.len(), 1, "{says}: {found:?}");
        assert!(found[0].0.contains(says) && found[0].1.contains(fix), "{found:?}");
    }
    // A queue that is to be made is none.
    let made = [("queue = 'cdc'", "queue = 'other'\nprovision = true")];
    changed(&shop, "made.toml", &made);
    assert_eq!(problems(&shop, "made.toml").await, []);

    // A column that no file declares may come with an event.
    let waits = "-- writes: postgres t\n-- key: a\nSELECT nothing AS a FROM orders";
    std::fs::write(sql.join("transforms/waits.sql"), waits).expect("written");
    let (is_content, found) = examined(&shop, "tidemark.toml").await;
    let unknown: Vec<_> = found.iter().filter(|line| line["verdict"] == "unknown").collect();
    let says = unknown.iter().any(|line| line["what"].to_string().contains("waits.sql:3"));
    assert!(is_content && says, "{found:?}");
    std::fs::remove_file(sql.join("transforms/waits.sql")).expect("removed");

    let broken = "-- writes: postgres t\n-- key: a\nSELECT order_id AS a FROM nowhere";
    std::fs::write(sql.join("transforms/broken.sql"), broken).expect("written");
    let found = problems(&shop, "tidemark.toml").await;
    assert!(
        found[0].0.contains("broken.sql") && found[0].1.contains("tidemark check"),
        "{found:?}"
    );
    std::fs::remove_file(sql.join("transforms/broken.sql")).expect("removed");

    let posts = "-- writes: rest /api/orders\n-- key: order_id\nSELECT order_id FROM orders";
    std::fs::write(sql.join("transforms/posts.sql"), posts).expect("written");
    let found = problems(&shop, "tidemark.toml").await;
    assert!(found[0].1.contains("set base_url in [sink.rest]"), "{found:?}");

    shop.stack.postgres.kill().await.expect("a kill");
    let found = problems(&shop, "made.toml").await;
    assert!(found.iter().any(|(_, fix)| fix.contains("start PostgreSQL")), "{found:?}");
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn who_may_not_publish_dead_letters_is_told() {
    let shop = Shop::open_with(|settings| Settings {
        broker_config: "[users]\ndemo = { password = 'demo', publish = false }\nclerk = 'demo'\n",
        ..settings
    })
    .await;
    changed(
        &shop,
        "clerk.toml",
        &[(
            "username = 'demo'\npassword = 'demo'\nqueue",
            "username = 'clerk'\npassword = 'demo'\nqueue",
        )],
    );
    changed(&shop, "none.toml", &[("[http]", "[dead_letters]\npublish = false\n\n[http]")]);
    let cases = [
        (
            "tidemark.toml",
            &["--publish"][..],
            "problem",
            "user demo may not publish to cdc/dlq/tidemark/doctor",
        ),
        ("tidemark.toml", &[], "unknown", "give --publish"),
        ("clerk.toml", &["--publish"], "ok", "user clerk may publish"),
        ("none.toml", &["--publish"], "ok", "dead letters are not published"),
    ];
    for (config, options, verdict, says) in cases {
        let (_, found) = examined_with(&shop, config, options).await;
        let line = found.iter().find(|line| line["what"].to_string().contains(says));
        let line = line.unwrap_or_else(|| panic!("{says}: {found:?}"));
        assert_eq!(line["verdict"], verdict, "{line}");
        let fix = line["fix"].to_string();
        assert_eq!(fix.contains("publish to cdc/dlq/>"), verdict == "problem", "{line}");
    }
    shop.stack.stop().await.expect("the servers end");
}
