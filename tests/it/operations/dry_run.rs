//! `tidemark try` looks at a queue: it shows what would come, and the queue does not notice.

use serde_json::Value;
use tidemark::source::solace::{SolaceConfig, SolaceSource};
use tidemark::source::{Source as _, SourceEvent};
use tokio::process::Command;

use crate::end_to_end::publish;
use crate::shop::Shop;

async fn tried(shop: &Shop) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    command.args(["try", "--count", "300", "--json", "--config"]);
    command.arg(shop.stack.folder().join("tidemark.toml"));
    let output = command.kill_on_drop(true).output().await.expect("the command runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn a_try_shows_what_would_come_and_takes_nothing() {
    let shop = Shop::open().await;
    let arguments = ["--rate", "max", "--events", "300", "--faults", "0.4"];
    let published = publish(&shop, &arguments).await;
    let first = tried(&shop).await;
    let of = |key: &str| first.iter().filter(|line| !line[key].is_null()).count();
    assert!(of("result") > 20 && of("dead_letter") > 1, "{first:?}");
    assert_eq!(of("ddl"), 0, "sql/ods makes all tables");
    let lines = first.iter().map(Value::to_string);
    let malformed = lines.filter(|line| line.contains("MALFORMED_JSON")).count();
    assert!(malformed > 0, "{first:?}");
    // Rows whose processing time is part of them are none.
    assert_eq!(tried(&shop).await, first);
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(shop.number(tables).await, 0);

    let config: SolaceConfig = toml::from_str(&format!(
        "host = '{}'\nusername = 'demo'\npassword = 'demo'\nqueue = 'cdc'",
        shop.stack.broker_url()
    ))
    .expect("a configuration");
    let mut source = SolaceSource::start(config);
    let (mut taken, mut last) = (0, 0);
    while taken < published {
        if let Some(SourceEvent::Message(message)) = source.recv().await.expect("the broker") {
            assert!(!message.redelivered, "{}", message.offset);
            taken += 1;
            assert!(message.offset.id > last, "{} after {last}", message.offset);
            last = message.offset.id;
        }
    }
    source.close().await;
    shop.stack.stop().await.expect("the servers end");
}
