use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::referee;
use crate::shop::{Shop, pause};

/// Publishes to the queue and waits for the generator's end; how many messages the broker holds.
pub(crate) async fn publish(shop: &Shop, arguments: &[&str]) -> u64 {
    let mut generator = shop.stack.generator(arguments).expect("a generator");
    assert!(shop.wait_for_end(&mut generator).await, "{}", shop.log_tail("generate"));
    shop.stack.published().expect("a count")
}

#[tokio::test]
async fn a_queue_becomes_exact_tables() {
    let shop = Shop::open().await;
    let published = publish(&shop, &["--rate", "max", "--events", "6000"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    referee::all_is_exact(&shop, published).await;

    // Once more on the state of before, with faults: bad rows cost themselves only.
    let published =
        publish(&shop, &["--rate", "max", "--events", "2000", "--seed", "2", "--faults", "0.05"])
            .await;
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    assert!(
        shop.number("SELECT count(*) FROM cdc_dlq WHERE error_type = 'MALFORMED_JSON'").await > 10
    );
    assert!(
        shop.number("SELECT count(*) FROM cdc_customers WHERE extra_fields IS NOT NULL").await > 0
    );
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_non_exclusive_queue_is_exact_too() {
    let shop = Shop::open_with(|settings| tidemark_dev::stack::Settings {
        access: "non-exclusive",
        ..settings
    })
    .await;
    let published = publish(&shop, &["--rate", "max", "--events", "3000"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published / 3).await;
    processor.kill().await.expect("a kill");
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}

/// The answer of a page: status line and body.
pub(crate) async fn get(shop: &Shop, path: &str) -> Option<(String, String)> {
    let address = ("127.0.0.1", shop.stack.http_port);
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

#[tokio::test]
async fn readiness_follows_the_target_and_nothing_is_lost_while_it_is_away() {
    let mut shop = Shop::open().await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    while get(&shop, "/ready").await.is_none_or(|(status, _)| !status.contains("200")) {
        pause().await;
    }
    shop.stack.postgres.kill().await.expect("a kill");
    let published = publish(&shop, &["--rate", "max", "--events", "500"]).await;
    loop {
        let (status, body) = get(&shop, "/ready").await.expect("a page");
        if status.contains("503") && body.contains("target") {
            break;
        }
        pause().await;
    }
    shop.stack.postgres.start().await.expect("Postgres starts again");
    shop.wait_for(published).await;
    while get(&shop, "/ready").await.is_none_or(|(status, _)| !status.contains("200")) {
        pause().await;
    }
    let (_, metrics) = get(&shop, "/metrics").await.expect("metrics");
    assert!(metrics.contains("cdc_commit_retries_total"), "{metrics}");
    shop.end(&mut processor).await;
    referee::all_is_exact(&shop, published).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn checkpoints_say_what_was_committed() {
    use datafusion::prelude::{ParquetReadOptions, SessionContext};
    let shop = Shop::open().await;
    let published = publish(&shop, &["--rate", "max", "--events", "1000"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    shop.end(&mut processor).await;
    let context = SessionContext::new();
    let folder = shop.stack.checkpoints();
    let folder = folder.to_str().expect("text");
    context
        .register_parquet("checkpoints", folder, ParquetReadOptions::default())
        .await
        .expect("files");
    let sql = "SELECT sum(messages), count(DISTINCT epoch) = count(*), min(queue) FROM checkpoints";
    let batches = context.sql(sql).await.expect("a plan").collect().await.expect("rows");
    let shown = arrow::util::pretty::pretty_format_batches(&batches).expect("text").to_string();
    assert!(
        shown.contains(&format!("| {published} "))
            && shown.contains("| true")
            && shown.contains("| cdc"),
        "{shown}"
    );
    shop.stack.stop().await.expect("the servers end");
}

/// The Parquet files of a folder and of those in it, whatever becomes of them meanwhile.
fn parquet_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => parquet_files(&path),
        path => vec![path],
    });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}

#[tokio::test]
async fn a_checkpoint_is_whole_whenever_somebody_looks() {
    const MAGIC: &[u8] = b"PAR1";
    let change =
        |settings| tidemark_dev::stack::Settings { checkpoint_interval: "20ms", ..settings };
    let shop = Shop::open_with(change).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    let arguments = ["--rate", "400/s", "--events", "3000"];
    let mut generator = shop.stack.generator(&arguments).expect("a generator");
    let mut seen = std::collections::BTreeSet::new();
    while generator.try_wait().expect("a process").is_none() {
        for path in parquet_files(&shop.stack.checkpoints()) {
            // What was merged into another is gone.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let is_whole = bytes.starts_with(MAGIC) && bytes.ends_with(MAGIC);
            assert!(is_whole, "{}: {} bytes", path.display(), bytes.len());
            seen.insert(path);
        }
        tokio::task::yield_now().await;
    }
    assert!(seen.len() > 20, "{} files", seen.len());
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn checkpoints_that_cannot_be_written_stop_nothing_and_are_seen() {
    let change =
        |settings| tidemark_dev::stack::Settings { checkpoint_interval: "100ms", ..settings };
    let shop = Shop::open_with(change).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    while get(&shop, "/ready").await.is_none_or(|(status, _)| !status.contains("200")) {
        pause().await;
    }
    // A file in the place of the folder, as a full disk would: root may write anywhere else.
    let blocked = shop.stack.checkpoints();
    while std::fs::write(&blocked, "in the way").is_err() {
        // Again if the processor has made the folder anew in between.
        drop(std::fs::remove_dir_all(&blocked));
    }
    let published = publish(&shop, &["--rate", "max", "--events", "300"]).await;
    shop.wait_for(published).await;
    loop {
        let Some((status, body)) = get(&shop, "/ready").await else { continue };
        if status.contains("200") && body.contains("\"checkpoint\"") {
            break;
        }
        pause().await;
    }
    std::fs::remove_file(&blocked).expect("out of the way");
    std::fs::create_dir(&blocked).expect("a folder");
    while get(&shop, "/ready").await.is_none_or(|(_, body)| body.contains("\"checkpoint\"")) {
        pause().await;
    }
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn checkpoint_storage_that_is_away_at_a_start_is_seen_and_used_when_it_is_back() {
    let change =
        |settings| tidemark_dev::stack::Settings { checkpoint_interval: "100ms", ..settings };
    let shop = Shop::open_with(change).await;
    let blocked = shop.stack.checkpoints();
    std::fs::write(&blocked, "in the way").expect("a file");
    let published = publish(&shop, &["--rate", "max", "--events", "300"]).await;
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    let body = loop {
        match get(&shop, "/ready").await {
            Some((status, body)) if status.contains("200") => break body,
            _ => pause().await,
        }
    };
    assert!(body.contains("is a file and not a folder"), "{body}");
    std::fs::remove_file(&blocked).expect("out of the way");
    while get(&shop, "/ready").await.is_none_or(|(_, body)| body.contains("\"checkpoint\"")) {
        pause().await;
    }
    assert!(std::fs::read_dir(&blocked).expect("a folder").count() > 0);
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
