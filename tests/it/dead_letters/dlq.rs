//! Dead letters that come back: listed, repaired, replayed twice, in the face of newer changes and of crashes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tidemark::source::solace::{SolaceConfig, SolaceSource};
use tidemark::source::{Source as _, SourceEvent};
use tidemark_dev::stack::Settings;
use tokio::process::Command;

use crate::end_to_end::{get, publish};
use crate::referee;
use crate::shop::{Shop, copied_sql, pause};

/// Long; reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// `tidemark dlq` on the stack of a shop.
pub(crate) async fn dlq(shop: &Shop, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    command.arg("dlq").arg("--config").arg(shop.stack.folder().join("tidemark.toml"));
    command.args(arguments).kill_on_drop(true).output().await.expect("the command runs")
}

/// What it writes, which is good.
async fn good(shop: &Shop, arguments: &[&str]) -> String {
    let output = dlq(shop, arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

/// The outcomes of a replay, in the order of the letters, and how it ended.
pub(crate) async fn replay(shop: &Shop, arguments: &[&str]) -> (Vec<String>, Output) {
    let output = dlq(shop, &[&["replay", "--json"], arguments].concat()).await;
    let mut lines = lines(&String::from_utf8_lossy(&output.stdout));
    lines.sort_by_key(|line| line["id"].as_i64());
    let outcomes = lines.iter().map(|line| line["outcome"].as_str().expect("text").to_owned());
    (outcomes.collect(), output)
}

/// How many lines say what.
fn counts(lines: &[Value], key: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line[key].as_str().expect("text").to_owned()).or_default() += 1;
    }
    counts
}

/// Declares order totals below 100 only, and no audit log: most orders and all of the log die.
fn hurt(sql: &Path) {
    edit(&sql.join("tables/orders.sql"), "DECIMAL(15,2)", "DECIMAL(4,2)");
    std::fs::rename(sql.join("tables/audit_log.sql"), sql.join("audit_log.away")).expect("moved");
}

fn repair(sql: &Path) {
    edit(&sql.join("tables/orders.sql"), "DECIMAL(4,2)", "DECIMAL(15,2)");
    std::fs::rename(sql.join("audit_log.away"), sql.join("tables/audit_log.sql")).expect("moved");
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("a file");
    assert!(text.contains(from), "{from} is not in {}", path.display());
    std::fs::write(path, text.replace(from, to)).expect("written");
}

/// A thousand dead letters and more, of an end that the SQL of today has, and of newer changes of some of
/// their rows.
async fn with_letters(shop: &Shop, sql: &Path) -> u64 {
    hurt(sql);
    let mut processor = shop.stack.processor(None).expect("a processor");
    let arguments = ["--rate", "max", "--events", "4000", "--faults", "0.02"];
    let published = publish(shop, &arguments).await;
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    repair(sql);
    // Another shop with the same numbers: its changes are newer.
    let published = publish(shop, &["--rate", "max", "--events", "400", "--seed", "2"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    published
}

async fn opened() -> (Shop, tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let sql = copied_sql(folder.path());
    let shop = Shop::open_with(|settings| Settings { sql: sql.clone(), ..settings }).await;
    // So many letters would be taken for a fault of the declarations, which it is, and stop the flow.
    let section = "[sink.postgres]\n";
    let all = format!("{section}max_refused_percent = 100\n");
    edit(&shop.stack.folder().join("tidemark.toml"), section, &all);
    (shop, folder, sql)
}

#[tokio::test]
async fn a_thousand_dead_letters_come_back_once_and_revive_nothing() {
    let (shop, _folder, sql) = opened().await;
    let published = with_letters(&shop, &sql).await;
    letters_are_told(&shop).await;

    let alone = dlq(&shop, &["replay", "--all", "--wait", "1s"]).await;
    let told = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(!alone.status.success() && told.contains("no processor of this pipeline"), "{told}");
    assert_eq!(shop.number("SELECT count(*) FROM cdc_dlq WHERE status <> 'dead'").await, 0);

    let letters = shop.number("SELECT count(*) FROM cdc_dlq").await as usize;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let first = dlq(&shop, &["replay", "--all", "--json"]).await;
    let first = counts(&lines(&String::from_utf8(first.stdout).expect("text")), "outcome");
    assert_eq!(first.values().sum::<usize>(), letters, "{first:?}");
    assert!(first["replayed"] > 500 && first["superseded"] > 50, "{first:?}");
    let broken = shop.number("SELECT count(*) FROM cdc_dlq WHERE error_type = 'MALFORMED_JSON'");
    assert_eq!(first["failed again"], broken.await as usize);
    is_right(&shop, published).await;

    let again = dlq(&shop, &["replay", "--all", "--json"]).await;
    let again = counts(&lines(&String::from_utf8(again.stdout).expect("text")), "outcome");
    assert_eq!(again, BTreeMap::from([("failed again".to_owned(), first["failed again"])]));
    is_right(&shop, published).await;
    let tried = "SELECT count(*) FROM cdc_dlq WHERE status = 'dead' AND retry_count <> 2";
    assert_eq!(shop.number(tried).await, 0);
    shop.end(&mut processor).await;
    letters_are_purged(&shop).await;
    shop.stack.stop().await.expect("the servers end");
}

/// Lists, filters, counts, shows and exports.
async fn letters_are_told(shop: &Shop) {
    let all = lines(&good(shop, &["list", "--json", "--limit", "100000"]).await);
    let types = counts(&all, "error_type");
    assert!(all.len() >= 1000, "{types:?}");
    let kinds: Vec<&str> = types.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["MALFORMED_JSON", "SCHEMA_MISMATCH", "UNKNOWN_TABLE"]);

    let filters = ["--type", "schema_mismatch", "--phase", "schema", "--table", "orders"];
    let of_orders = [&["list", "--json", "--limit", "100000"][..], &filters].concat();
    let of_orders = lines(&good(shop, &of_orders).await);
    assert_eq!(of_orders.len(), types["SCHEMA_MISMATCH"]);
    assert!(of_orders.iter().all(|letter| letter["column"] == "total_amount"));
    let by_topic = ["list", "--json", "--topic", "cdc/oracle/*/AUDIT_LOG/*", "--limit", "100000"];
    let by_topic = counts(&lines(&good(shop, &by_topic).await), "error_type");
    assert_eq!(by_topic["UNKNOWN_TABLE"], types["UNKNOWN_TABLE"]);
    assert!(!by_topic.contains_key("SCHEMA_MISMATCH"), "{by_topic:?}");
    assert_eq!(good(shop, &["list", "--until", "1h"]).await, "no dead letters\n");
    assert_eq!(lines(&good(shop, &["list", "--json", "--since", "1h"]).await).len(), 50);

    let stats = lines(&good(shop, &["stats", "--json"]).await);
    let total: i64 = stats.iter().map(|line| line["count"].as_i64().expect("a count")).sum();
    assert_eq!(total as usize, all.len());

    let one = all[0]["id"].as_i64().expect("a number").to_string();
    let shown: Value =
        serde_json::from_str(&good(shop, &["show", &one, "--json"]).await).expect("JSON");
    let payload =
        format!("SELECT convert_from(original_payload, 'UTF8') FROM cdc_dlq WHERE id = {one}");
    assert_eq!(shown["original_payload"].as_str(), shop.query(&payload).await[0][0].as_deref());
    assert!(good(shop, &["show", &one]).await.contains("rmid1:"));

    let file = shop.stack.folder().join("letters.ndjson");
    let path = file.to_str().expect("text");
    good(shop, &["export", "--type", "MALFORMED_JSON", "--to", path]).await;
    let exported = lines(&std::fs::read_to_string(&file).expect("a file"));
    assert_eq!(exported.len(), types["MALFORMED_JSON"]);
    assert!(exported.iter().all(|line| line["dlq_metadata"]["error_type"] == "MALFORMED_JSON"));
}

/// Every letter is settled as it must be, and every result is its SELECT over the landed rows.
async fn is_right(shop: &Shop, published: u64) {
    let landing = "SELECT event_id, order_id AS key FROM cdc_orders UNION ALL SELECT event_id, log_id FROM cdc_audit_log";
    let lost = format!(
        "SELECT count(*) FROM cdc_dlq WHERE status = 'replayed' AND event_id NOT IN (SELECT event_id FROM ({landing}) l)"
    );
    assert_eq!(shop.number(&lost).await, 0, "a replayed event that has not landed");
    let revived = format!(
        "SELECT count(*) FROM cdc_dlq WHERE status <> 'replayed' AND event_id IN (SELECT event_id FROM ({landing}) l)"
    );
    assert_eq!(shop.number(&revived).await, 0, "a superseded event that has landed");
    // Not all of what a payload holds goes into jsonb.
    let key = r#"substring(convert_from(original_payload, 'UTF8') FROM '"ORDER_ID": ?([0-9]+)')"#;
    let newest_of_all = format!(
        "SELECT count(*) FROM cdc_dlq letter WHERE status = 'superseded' AND source_table = 'SALES.ORDERS' \
         AND NOT EXISTS (SELECT FROM cdc_orders WHERE order_id = ({key})::bigint AND event_id > letter.event_id)"
    );
    assert_eq!(shop.number(&newest_of_all).await, 0, "nothing newer has landed");
    let older = format!(
        "SELECT count(*) FROM cdc_orders_current current JOIN cdc_dlq letter \
         ON ({key})::bigint = current.order_id AND letter.source_table = 'SALES.ORDERS' \
         WHERE letter.event_id > current.event_id"
    );
    assert_eq!(shop.number(&older).await, 0, "a current row that is older than a letter of it");
    referee::all_is_exact(shop, published).await;
}

async fn letters_are_purged(shop: &Shop) {
    let refused = dlq(shop, &["purge"]).await;
    assert!(!refused.status.success());
    assert_eq!(good(shop, &["purge", "--older-than", "7d"]).await, "0 dead letters deleted\n");
    let before = shop.number("SELECT count(*) FROM cdc_dlq WHERE status = 'superseded'").await;
    let told = good(shop, &["purge", "--status", "superseded"]).await;
    assert_eq!(told, format!("{before} dead letters deleted\n"));
    good(shop, &["purge", "--all"]).await;
    assert_eq!(shop.number("SELECT count(*) FROM cdc_dlq").await, 0);
}

#[tokio::test]
async fn a_replay_that_dies_anywhere_comes_to_the_same_end() {
    let (shop, _folder, sql) = opened().await;
    let published = with_letters(&shop, &sql).await;
    shop.query("UPDATE cdc_dlq SET status = 'requested'").await;
    for failpoint in ["before_commit:1", "before_commit:2", "between_commit_and_ack:1"] {
        let mut processor = shop.stack.processor(Some(failpoint)).expect("a processor");
        assert!(!shop.wait_for_end(&mut processor).await, "{failpoint} was not passed");
    }
    let mut processor = shop.stack.processor(None).expect("a processor");
    while shop.number("SELECT count(*) FROM cdc_dlq WHERE status = 'requested'").await > 0 {
        pause().await;
    }
    shop.end(&mut processor).await;
    let tried = "SELECT count(*) FROM cdc_dlq WHERE retry_count <> 1";
    assert_eq!(shop.number(tried).await, 0, "each letter is tried once");
    is_right(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}

/// What came on the topics of dead letters, by event: how often, with the last payload. All of them, and some
/// twice.
async fn published(shop: &Shop, letters: usize) -> BTreeMap<String, (usize, String, Value)> {
    let mut source = SolaceSource::start(listener(shop));
    let mut came: BTreeMap<String, (usize, String, Value)> = BTreeMap::new();
    while came.len() < letters || came.values().all(|(times, ..)| *times < 2) {
        let event = source.recv().await.expect("the broker").expect("no end");
        let SourceEvent::Message(message) = event else { continue };
        let letter: Value = serde_json::from_slice(&message.payload).expect("JSON");
        let id = letter["dlq_metadata"]["event_id"].as_str().expect("an id").to_owned();
        let entry = came.entry(id).or_insert((0, String::new(), Value::Null));
        (entry.0, entry.1, entry.2) = (entry.0 + 1, message.topic.clone(), letter);
        source.acknowledger().ack(vec![message.receipt]).await;
    }
    source.close().await;
    came
}

/// A queue for dead letters.
fn listener(shop: &Shop) -> SolaceConfig {
    let url = shop.stack.broker_url();
    toml::from_str(&format!(
        "host = '{url}'\nusername = 'demo'\npassword = 'demo'\nqueue = 'letters'\nprovision = true\n\
         topics = ['dead/>']"
    ))
    .expect("a configuration")
}

/// Makes the queue, so that nothing is lost that is published from now on.
async fn listen(shop: &Shop) {
    let mut source = SolaceSource::start(listener(shop));
    while !matches!(source.recv().await, Ok(Some(SourceEvent::Up))) {}
    source.close().await;
}

#[tokio::test]
async fn dead_letters_are_published_before_their_messages_are_acknowledged() {
    let more_config = "[dead_letters]\ntopic_prefix = 'dead'\nretention = '5m'\n".to_owned();
    let shop = Shop::open_with(|settings| Settings { more_config, ..settings }).await;
    listen(&shop).await;
    let arguments = ["--rate", "max", "--events", "1000", "--faults", "0.3"];
    let events = publish(&shop, &arguments).await;
    // Once before anything is published, and once before the table knows.
    for failpoint in ["between_commit_and_ack:1", "letters_published:1"] {
        let mut processor = shop.stack.processor(Some(failpoint)).expect("a processor");
        assert!(!shop.wait_for_end(&mut processor).await, "{failpoint} was not passed");
    }
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(events).await;
    while shop.number("SELECT count(*) FROM cdc_dlq WHERE published_at IS NULL").await > 0 {
        pause().await;
    }
    let letters = shop
        .query(
            "SELECT event_id, original_topic, convert_from(original_payload, 'UTF8') FROM cdc_dlq",
        )
        .await;
    assert!(letters.len() > 50, "{}", letters.len());
    let came = tokio::time::timeout(PATIENCE, published(&shop, letters.len())).await;
    let came = came.expect("all of them, and those twice that the second kill came between");
    for letter in &letters {
        let [Some(id), Some(topic), Some(payload)] = letter.as_slice() else {
            panic!("{letter:?}")
        };
        let (_, published_to, published) = &came[id];
        assert_eq!(published_to, &format!("dead/{topic}"));
        assert_eq!(published["original_payload"].as_str(), Some(payload.as_str()));
        assert_eq!(published["dlq_metadata"]["original_topic"].as_str(), Some(topic.as_str()));
    }
    assert!(came.values().all(|(times, ..)| *times <= 2));

    shop.end(&mut processor).await;
    only_resolved_letters_expire(&shop).await;
    shop.stack.stop().await.expect("the servers end");
}

/// Of old letters, while no processor runs.
async fn only_resolved_letters_expire(shop: &Shop) {
    // Old, and a third of them resolved: only these are deleted. What is open stays.
    let age = "UPDATE cdc_dlq SET last_failure = now() - interval '6 minutes', first_failure = now() - interval '2 days'";
    shop.query(age).await;
    let resolve = "UPDATE cdc_dlq SET status = CASE id % 6 WHEN 0 THEN 'replayed' ELSE 'superseded' END, \
                   settled_at = now() - interval '6 minutes' WHERE id % 3 = 0";
    shop.query(resolve).await;
    shop.query("UPDATE cdc_dlq SET settled_at = now() WHERE id = (SELECT min(id) FROM cdc_dlq WHERE id % 3 = 0)").await;
    let open = shop.number("SELECT count(*) FROM cdc_dlq WHERE status = 'dead'").await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    while shop.number("SELECT count(*) FROM cdc_dlq WHERE status <> 'dead'").await > 1 {
        pause().await;
    }
    let shown = |metrics: &str, name: &str| -> Option<f64> {
        metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let metrics = loop {
        match get(shop, "/metrics").await {
            Some((_, body)) if body.contains("\ncdc_open_dead_letters ") => break body,
            _ => pause().await,
        }
    };
    assert_eq!(shown(&metrics, "cdc_open_dead_letters"), Some(open as f64));
    let age = shown(&metrics, "cdc_oldest_open_dead_letter_age_seconds").expect("an age");
    assert!((172_800.0..180_000.0).contains(&age), "{age}");
    shop.end(&mut processor).await;
    assert_eq!(shop.number("SELECT count(*) FROM cdc_dlq WHERE status = 'dead'").await, open);

    // As before, if the operator says so.
    let place = shop.stack.folder().join("tidemark.toml");
    let config = std::fs::read_to_string(&place).expect("a configuration");
    let all = config.replace("retention = '5m'", "retention = '5m'\nexpires = 'all'");
    std::fs::write(&place, all).expect("written");
    let mut processor = shop.stack.processor(None).expect("a processor");
    while shop.number("SELECT count(*) FROM cdc_dlq").await > 1 {
        pause().await;
    }
    shop.end(&mut processor).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_while_the_broker_refuses_dead_letters() {
    let shop = Shop::open_with(|settings| Settings {
        broker_config: "[users]\ndemo = { password = 'demo', publish = false }\ngenerator = ''\n",
        ..settings
    })
    .await;
    let events = publish(&shop, &["--rate", "max", "--events", "500", "--faults", "0.3"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    loop {
        let page = get(&shop, "/ready").await;
        if page.is_some_and(|(status, page)| {
            status.contains("503") && page.contains("let the client user publish there")
        }) {
            break;
        }
        pause().await;
    }
    shop.end(&mut processor).await;
    let committed = shop.committed().await;
    assert!(committed > 0);
    assert_eq!(shop.number("SELECT count(*) FROM cdc_dlq WHERE published_at IS NOT NULL").await, 0);

    // What was committed comes again, and goes when nothing is published any more.
    let place = shop.stack.folder().join("tidemark.toml");
    let config = std::fs::read_to_string(&place).expect("a configuration");
    std::fs::write(&place, config + "\n[dead_letters]\npublish = false\n").expect("written");
    let mut processor = shop.stack.processor(None).expect("a processor");
    let came_again = |page: &str| {
        let line = page.lines().find(|line| line.starts_with("cdc_duplicate_messages_total "));
        let count = line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
        count.is_some_and(|count| count == committed as f64)
    };
    while get(&shop, "/metrics").await.is_none_or(|(_, page)| !came_again(&page)) {
        pause().await;
    }
    shop.wait_for(events).await;
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
