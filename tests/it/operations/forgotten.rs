//! A database that has forgotten committed epochs: a restored backup, a failover while the processor runs, a ledger that was
//! dropped. Nothing goes on silently, and what is lost is named.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tidemark::model::Offset;
use tidemark_dev::stack::{Settings, Stack};
use tokio::process::{Child, Command};

use crate::end_to_end::{get, publish};
use crate::shop::{Shop, pause};

const EVENTS: [&str; 4] = ["--rate", "max", "--events", "300"];

/// Copies a folder with its owners.
async fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().await.expect("cp");
    assert!(copied.success(), "{} to {}", from.display(), to.display());
}

/// The files of the server as they are now.
async fn back_up(stack: &mut Stack) -> PathBuf {
    let (data, backup) = (stack.folder().join("postgres"), stack.folder().join("backup"));
    stack.postgres.kill().await.expect("a kill");
    copy(&data, &backup).await;
    stack.postgres.start().await.expect("Postgres starts again");
    backup
}

/// The server goes on from a backup: as after a failover to a standby that was behind.
async fn restore(stack: &mut Stack, backup: &Path) {
    let data = stack.folder().join("postgres");
    stack.postgres.kill().await.expect("a kill");
    std::fs::remove_dir_all(&data).expect("the newer files go");
    copy(backup, &data).await;
    stack.postgres.start().await.expect("Postgres starts again");
}

fn start(shop: &Shop, accepts: Option<i64>) -> Child {
    let log = shop.stack.folder().join("run.log");
    let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    command.arg("run").arg("--config").arg(shop.stack.folder().join("tidemark.toml"));
    if let Some(epoch) = accepts {
        command.arg("--accept-lost-epochs").arg(epoch.to_string());
    }
    let other = log.try_clone().expect("a log");
    command.stdin(Stdio::null()).stdout(log).stderr(other).kill_on_drop(true);
    command.spawn().expect("a processor")
}

/// Runs a processor until it refuses to go on; what it says.
async fn refusal(shop: &Shop, accepts: Option<i64>) -> String {
    let log = shop.stack.folder().join("run.log");
    let before = std::fs::read_to_string(&log).unwrap_or_default().len();
    let mut processor = start(shop, accepts);
    assert!(!shop.wait_for_end(&mut processor).await, "it ends with an error");
    std::fs::read_to_string(&log).expect("a log").split_off(before)
}

async fn newest(shop: &Shop) -> i64 {
    shop.number("SELECT max(epoch) FROM tidemark_ledger").await
}

/// Processes all that was published, and ends in good order.
async fn process(shop: &Shop, count: u64) {
    let mut processor = start(shop, None);
    shop.wait_for(count).await;
    shop.end(&mut processor).await;
}

/// The newest message in the ledger.
async fn newest_offset(shop: &Shop) -> Offset {
    let offsets = shop.ledger().await.expect("a ledger").offsets;
    let (first, last) = offsets.ranges().last().expect("messages");
    Offset::new(first.spool, last)
}

/// The first message in the ledger after one, and the last one.
async fn offsets_after(shop: &Shop, kept: Offset) -> [String; 2] {
    let offsets = shop.ledger().await.expect("a ledger").offsets;
    let after = offsets.ranges().find(|(_, last)| *last > kept.id).expect("later messages");
    let first = Offset::new(kept.spool, after.0.id.max(kept.id + 1));
    [first, newest_offset(shop).await].map(|offset| offset.to_string())
}

#[tokio::test]
async fn a_restored_backup_is_noticed_named_and_accepted_once() {
    let mut shop = Shop::open().await;
    let first = publish(&shop, &EVENTS).await;
    process(&shop, first).await;
    let (kept, kept_offset) = (newest(&shop).await, newest_offset(&shop).await);
    let backup = back_up(&mut shop.stack).await;
    let second = publish(&shop, &EVENTS).await;
    process(&shop, second).await;
    let (lost, lost_offsets) = (newest(&shop).await, offsets_after(&shop, kept_offset).await);
    assert!(lost > kept);
    restore(&mut shop.stack, &backup).await;

    let said = refusal(&shop, None).await;
    let epochs = format!("{} to {lost}: its ledger ends with epoch {kept}", kept + 1);
    assert!(said.contains(&epochs), "{said}");
    for offset in lost_offsets {
        assert!(said.contains(&offset), "{offset} is not in {said}");
    }
    assert!(said.contains(&format!("Their {} message(s)", second - first)), "{said}");
    assert!(said.contains("start-replay from-date 20"), "{said}");
    assert!(said.contains(&format!("--accept-lost-epochs {lost}")), "{said}");
    assert_eq!(newest(&shop).await, kept, "nothing was written");
    let said = refusal(&shop, Some(lost + 1)).await;
    assert!(
        said.contains(&format!("--accept-lost-epochs {} does not accept this", lost + 1)),
        "{said}"
    );

    let third = publish(&shop, &EVENTS).await;
    let mut processor = start(&shop, Some(lost));
    shop.wait_for(first + third - second).await;
    let (_, metrics) = get(&shop, "/metrics").await.expect("a page");
    shop.end(&mut processor).await;
    let gauge = metrics.lines().find(|line| line.starts_with("cdc_accepted_lost_epochs"));
    assert!(gauge.is_some(), "{metrics}");
    let numbers = "SELECT min(epoch) FROM tidemark_ledger WHERE pipeline = 'sales'";
    assert!(shop.number(numbers).await > lost, "numbers of lost epochs are not used again");
    let journal = "SELECT first_epoch, last_epoch, messages, accepted_epoch > last_epoch, \
                   offsets -> 'cdc' IS NOT NULL FROM tidemark_lost_epochs";
    let expected = [(kept + 1).to_string(), lost.to_string(), (second - first).to_string()];
    let row = &shop.query(journal).await[0];
    let row: Vec<&str> = row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect();
    assert_eq!(row[..3], expected);
    assert_eq!(row[3..], ["t", "t"]);
    // Once is enough, and the gauge stays.
    let mut processor = start(&shop, None);
    let fourth = publish(&shop, &EVENTS).await;
    shop.wait_for(first + fourth - second).await;
    let (_, metrics) = get(&shop, "/metrics").await.expect("a page");
    let gauge = format!("cdc_accepted_lost_epochs {}", lost - kept);
    assert!(metrics.lines().any(|line| line == gauge), "{gauge} is not in {metrics}");
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_failover_under_a_running_processor_names_what_no_checkpoint_has_and_so_does_the_next_start()
 {
    let mut shop =
        Shop::open_with(|settings| Settings { checkpoint_interval: "1h", ..settings }).await;
    let first = publish(&shop, &EVENTS).await;
    process(&shop, first).await;
    let (kept, kept_offset) = (newest(&shop).await, newest_offset(&shop).await);
    let backup = back_up(&mut shop.stack).await;
    let mut processor = start(&shop, None);
    let second = publish(&shop, &EVENTS).await;
    shop.wait_for(second).await;
    let (lost, lost_offsets) = (newest(&shop).await, offsets_after(&shop, kept_offset).await);
    restore(&mut shop.stack, &backup).await;
    let third = publish(&shop, &EVENTS).await;
    assert!(!shop.wait_for_end(&mut processor).await, "it ends with an error");
    let log = std::fs::read_to_string(shop.stack.folder().join("run.log")).expect("a log");
    let epochs = format!("{} to {lost}: its ledger ends with epoch {kept}", kept + 1);
    // Whoever comes later is told the same.
    for said in [log, refusal(&shop, None).await, refusal(&shop, Some(kept)).await] {
        assert!(said.contains(&epochs), "{epochs} is not in {said}");
        for offset in &lost_offsets {
            assert!(said.contains(offset), "{offset} is not in {said}");
        }
        assert!(said.contains(&format!("Their {} message(s)", second - first)), "{said}");
    }
    assert_eq!(newest(&shop).await, kept, "nothing was written");
    let mut processor = start(&shop, Some(lost));
    shop.wait_for(first + third - second).await;
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_ledger_that_was_dropped_is_noticed_by_the_rows_that_stayed() {
    let shop = Shop::open().await;
    let first = publish(&shop, &EVENTS).await;
    process(&shop, first).await;
    std::fs::remove_dir_all(shop.stack.checkpoints()).expect("no checkpoints");
    let highest = "SELECT max(change_seq) >> 44 FROM cdc_orders";
    assert_eq!(shop.number(highest).await, 0);
    shop.query("TRUNCATE tidemark_ledger").await;
    let said = refusal(&shop, None).await;
    assert!(said.contains("its ledger has no epoch, but tidemark_spools names spools"), "{said}");
    shop.query("DROP TABLE tidemark_ledger, tidemark_spools, tidemark_committed").await;
    let said = refusal(&shop, None).await;
    assert!(said.contains("holds rows, such as that of rmid1:"), "{said}");
    assert!(said.contains("--accept-lost-epochs 0"), "{said}");

    let second = publish(&shop, &EVENTS).await;
    let mut processor = start(&shop, Some(0));
    shop.wait_for(second - first).await;
    shop.end(&mut processor).await;
    assert_eq!(shop.number(highest).await, 1, "new changes are above those that stayed");
    shop.stack.stop().await.expect("the servers end");
}

#[tokio::test]
async fn a_loss_is_found_when_the_checkpoints_are_back() {
    let mut shop =
        Shop::open_with(|settings| Settings { checkpoint_interval: "200ms", ..settings }).await;
    let first = publish(&shop, &EVENTS).await;
    process(&shop, first).await;
    let kept = newest(&shop).await;
    let backup = back_up(&mut shop.stack).await;
    let second = publish(&shop, &EVENTS).await;
    process(&shop, second).await;
    let lost = newest(&shop).await;
    restore(&mut shop.stack, &backup).await;

    // A file is where the folder should be.
    let (folder, aside) = (shop.stack.checkpoints(), shop.stack.folder().join("aside"));
    std::fs::rename(&folder, &aside).expect("moved");
    std::fs::write(&folder, "in the way").expect("written");
    let mut processor = start(&shop, None);
    let third = publish(&shop, &EVENTS).await;
    shop.wait_for(first + third - second).await;
    let (status, body) = get(&shop, "/ready").await.expect("a page");
    assert!(status.contains("200") && body.contains("checkpoint"), "{status} {body}");
    std::fs::remove_file(&folder).expect("removed");
    std::fs::rename(&aside, &folder).expect("moved back");
    assert!(!shop.wait_for_end(&mut processor).await, "it ends with an error");
    let log = std::fs::read_to_string(shop.stack.folder().join("run.log")).expect("a log");
    let epochs = format!("{} to {lost}: its ledger", kept + 1);
    assert!(log.contains(&epochs), "{epochs} is not in {}", shop.log_tail("run"));
    let highest = lost.max(newest(&shop).await);
    let mut processor = start(&shop, Some(lost));
    while newest(&shop).await <= highest {
        assert!(processor.try_wait().expect("asked").is_none(), "{}", shop.log_tail("run"));
        pause().await;
    }
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
