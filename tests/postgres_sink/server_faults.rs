//! What an operator or a disk does to the server, at the steps of an epoch.

use std::io::Write;

use tidemark::resilience::Recovery;
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};
use tidemark::sink::{Sink, SinkError};

use crate::fault_proxy::{Fault, FaultProxy};
use crate::faults::{STEPS, everything, everything_is_there};
use crate::postgres::{Durability, Places, PostgresServer};
use crate::small_disk::SmallDisk;
use crate::{Database, QUEUE};

#[tokio::test]
async fn a_server_that_is_stopped_at_once_at_every_step_has_each_row_once() {
    let mut database = Database::start(Durability::On).await;
    let proxy = FaultProxy::start(database.server.port()).await;
    let url = database.server.url_through(proxy.port);
    let mut sink = database.sink_at(PostgresConfig::from_url(url), QUEUE).await;
    for (number, (name, step)) in (1..).zip(STEPS) {
        let commit = everything(number);
        proxy.arm(step, Fault::Pause);
        let (stopped, ()) = tokio::join!(sink.commit(&commit), async {
            proxy.paused().await;
            database.server.stop_immediately();
            proxy.go_on();
        });
        assert_eq!(stopped.unwrap_err().recovery(), Recovery::Retry, "{name}");
        assert_eq!(sink.commit(&commit).await.unwrap_err().recovery(), Recovery::Retry, "{name}");
        database.server.restart().await;
        sink.commit(&commit).await.unwrap();
        sink.commit(&commit).await.unwrap();
        everything_is_there(&database.server.client().await, number, name).await;
    }
}

/// What somebody does, how it is repaired, what the message says, and what is done about it meanwhile.
const DEEDS: [(&str, &str, &str, Recovery); 7] = [
    (
        "ALTER TABLE orders_history DROP COLUMN status",
        "ALTER TABLE orders_history ADD COLUMN status text",
        "orders_history.status: the column is missing",
        Recovery::Hold,
    ),
    (
        "ALTER TABLE order_totals DROP COLUMN status",
        "ALTER TABLE order_totals ADD COLUMN status text",
        "order_totals.status: the column is missing",
        Recovery::Hold,
    ),
    (
        "REVOKE INSERT ON orders_history FROM clerk",
        "GRANT INSERT ON orders_history TO clerk",
        "permission denied for table orders_history (42501); grant the role its rights",
        Recovery::Hold,
    ),
    (
        "REVOKE INSERT ON cdc_dlq FROM clerk",
        "GRANT INSERT ON cdc_dlq TO clerk",
        "permission denied for table cdc_dlq (42501); grant the role its rights",
        Recovery::Hold,
    ),
    (
        "REVOKE INSERT ON tidemark_outbox FROM clerk",
        "GRANT INSERT ON tidemark_outbox TO clerk",
        "permission denied for table tidemark_outbox (42501); grant the role its rights",
        Recovery::Hold,
    ),
    (
        "BEGIN; LOCK TABLE orders_history",
        "ROLLBACK",
        "canceling statement due to lock timeout",
        Recovery::Retry,
    ),
    (
        "BEGIN; LOCK TABLE tidemark_ledger",
        "ROLLBACK",
        "canceling statement due to lock timeout",
        Recovery::Retry,
    ),
];

#[tokio::test]
async fn what_somebody_does_in_mid_epoch_diverts_nothing_and_is_over_with_its_repair() {
    let database = Database::start(Durability::Off).await;
    let client = database.server.client().await;
    let role = "CREATE ROLE clerk LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk; \
                GRANT CREATE ON SCHEMA public TO clerk; SET lock_timeout = '100ms'";
    client.batch_execute(role).await.unwrap();
    let proxy = FaultProxy::start(database.server.port()).await;
    let url = database.server.url_through(proxy.port).replace("postgres@", "clerk@");
    let lock_timeout = std::time::Duration::from_millis(200);
    let config = PostgresConfig { lock_timeout, ..PostgresConfig::from_url(url) };
    let mut sink = database.sink_at(config, QUEUE).await;
    let (mut number, mut in_time) = (1, 0);
    for (deed, repair, says, recovery) in DEEDS {
        for (name, step) in STEPS {
            let what = format!("{deed} at {name}");
            proxy.arm(step, Fault::Pause);
            let commit = everything(number);
            let (written, done) = tokio::join!(sink.commit(&commit), async {
                proxy.paused().await;
                let done = client.batch_execute(deed).await;
                proxy.go_on();
                done
            });
            let mut error = written.err();
            in_time += usize::from(error.is_some());
            if error.is_none() {
                // The epoch had the table's lock already, or its rights were checked before.
                number += 1;
            }
            if done.is_err() {
                client.batch_execute("ROLLBACK").await.unwrap();
                client.batch_execute(deed).await.unwrap();
            }
            if error.is_none() {
                error = sink.commit(&everything(number)).await.err();
            }
            let error: SinkError = error.unwrap_or_else(|| panic!("{what} changes nothing"));
            assert_eq!(error.recovery(), recovery, "{what}: {error:?}");
            let again = sink.commit(&everything(number)).await.unwrap_err().to_string();
            assert!(again.contains(says), "{what}: {error}, then {again}");
            client.batch_execute(repair).await.unwrap();
            sink.commit(&everything(number)).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            everything_is_there(&client, number, &what).await;
            number += 1;
        }
    }
    assert!(in_time >= 2 * DEEDS.len(), "{in_time} deeds met their own epoch");
}

fn small_disk(megabytes: usize) -> Option<SmallDisk> {
    let disk = SmallDisk::mount(megabytes);
    if disk.is_none() {
        let may_skip = std::env::var("TIDEMARK_SKIP").is_ok_and(|skip| skip == "disks");
        assert!(
            may_skip,
            "this user may not mount a file system that gets full: run the tests as root, or leave this one out with \
             TIDEMARK_SKIP=disks, as `make test` does"
        );
        let text = "skipped: this user may not mount a file system that gets full\n";
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    disk
}

#[tokio::test]
async fn a_full_disk_holds_the_flow_until_it_has_space() {
    for table in ["orders_history", "order_totals", "tidemark_outbox", "cdc_dlq", "tidemark_ledger"]
    {
        // Dropped after the server that has files on it.
        let Some(disk) = small_disk(8) else { return };
        let database = Database::start(Durability::Off).await;
        let client = database.server.client().await;
        let place = disk.path().join("tables");
        std::fs::create_dir(&place).unwrap();
        database.server.give(&place);
        let space = format!("CREATE TABLESPACE small LOCATION '{}'", place.display());
        client.batch_execute(&space).await.unwrap();
        // It is empty, so that its first row needs a page.
        let onto = format!("ALTER TABLE {table} SET TABLESPACE small");
        client.batch_execute(&onto).await.unwrap();
        disk.fill();
        let mut sink = database.sink().await;
        for _ in 0..2 {
            let error = sink.commit(&everything(1)).await.unwrap_err();
            assert_eq!((error.recovery(), error.attempts()), (Recovery::Hold, Some(1)), "{table}");
            let text = error.to_string();
            assert!(text.contains("53100") && text.contains("disk space"), "{table}: {text}");
        }
        assert_eq!(database.count("cdc_dlq").await, 0, "{table}: nothing is diverted");
        disk.make_room();
        sink.commit(&everything(1)).await.unwrap();
        everything_is_there(&client, 1, table).await;
    }
}

/// Epochs from `number` on, because a full disk may have room for some rows yet; the one that failed, and why.
async fn commit_until_it_fails(sink: &mut PostgresSink, mut number: u64) -> (u64, SinkError) {
    loop {
        match sink.commit(&everything(number)).await {
            Ok(()) => number += 1,
            Err(error) => return (number, error),
        }
    }
}

#[tokio::test]
async fn a_full_data_folder_holds_the_flow_until_it_has_space() {
    // Dropped after the server that has its files on it.
    let Some(disk) = small_disk(96) else { return };
    let places = Places { data: Some(disk.path().join("data")), wal: None };
    let database = Database { server: PostgresServer::start_on(places, &[]).await };
    let mut sink = database.sink().await;
    sink.commit(&everything(1)).await.unwrap();
    disk.fill();
    let (number, error) = commit_until_it_fails(&mut sink, 2).await;
    assert_eq!((error.recovery(), error.attempts()), (Recovery::Hold, Some(1)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("53100") && text.contains("disk space"), "{text}");
    let client = database.server.client().await;
    everything_is_there(&client, number - 1, "while the disk is full").await;
    disk.make_room();
    sink.commit(&everything(number)).await.unwrap();
    everything_is_there(&client, number, "with space again").await;
}

/// Then the server itself ends, in the middle of a commit or anywhere.
#[tokio::test]
async fn a_full_disk_of_the_write_ahead_log_loses_and_doubles_nothing() {
    let Some(disk) = small_disk(24) else { return };
    let places = Places { data: None, wal: Some(disk.path().join("wal")) };
    // Files of the log are not used again.
    let settings =
        [("max_wal_size", "1GB"), ("checkpoint_timeout", "1h"), ("max_connections", "20")];
    let mut database = Database { server: PostgresServer::start_on(places, &settings).await };
    let mut sink = database.sink().await;
    sink.commit(&everything(1)).await.unwrap();
    disk.fill();
    let (number, error) = commit_until_it_fails(&mut sink, 2).await;
    let is_environment =
        |error: &SinkError| matches!(error.recovery(), Recovery::Retry | Recovery::Hold);
    assert!(is_environment(&error), "{error:?}");
    // It can't recover while there is no space.
    let error = sink.commit(&everything(number)).await.unwrap_err();
    assert!(is_environment(&error), "{error:?}");
    database.server.kill();
    disk.make_room();
    database.server.restart().await;
    sink.commit(&everything(number)).await.unwrap();
    let client = database.server.client().await;
    everything_is_there(&client, number, "after the recovery").await;
}
