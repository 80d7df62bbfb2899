use std::collections::BTreeMap;

use datafusion::prelude::{ParquetReadOptions, SessionContext};

use super::*;
use crate::model::{Offset, OffsetSet, SchemaChangeKind, SeenType, SourceTable};

fn entry(epoch: u64) -> LedgerEntry {
    let offsets: OffsetSet =
        [epoch * 10, epoch * 10 + 1].map(|id| Offset::new(7, id)).into_iter().collect();
    LedgerEntry {
        pipeline: "sales".into(),
        queue: "cdc".into(),
        epoch: Epoch(epoch),
        run_id: "run".into(),
        offsets,
        landed: BTreeMap::from([("orders".to_owned(), 2)]),
        results: BTreeMap::new(),
        dead_letters: 0,
        watermark: Some(1_000_000),
        opened_at: 1,
        closed_at: 2,
        committed_at: 3,
    }
}

fn learned(column: &str) -> SchemaChange {
    SchemaChange {
        source: SourceTable { schema: "SALES".to_owned(), table: "ORDERS".to_owned() },
        column: column.to_owned(),
        kind: SchemaChangeKind::Added,
        seen: SeenType::Text,
        offset: Offset::new(7, 1),
    }
}

fn open(folder: &std::path::Path) -> Checkpoints {
    let url = folder.to_str().unwrap().to_owned();
    Checkpoints::new(&CheckpointConfig { url, ..CheckpointConfig::default() }, "sales").unwrap()
}

async fn query(folder: &std::path::Path, sql: &str) -> String {
    let context = SessionContext::new();
    let files = folder.to_str().unwrap();
    context.register_parquet("checkpoints", files, ParquetReadOptions::default()).await.unwrap();
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
}

#[tokio::test]
async fn datafusion_reads_offsets_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    checkpoints.write(&[entry(1), entry(2)]).await.unwrap();
    assert_eq!(checkpoints.newest().await.unwrap(), Some(Epoch(2)));
    let sql = "SELECT epoch, messages, landed['orders'] AS orders, offsets[1]['last'] AS last FROM checkpoints ORDER BY epoch";
    let text = query(folder.path(), sql).await;
    assert!(
        text.contains("| 2     | 2        | 2      | rmid1:00000-00000000007-00000000-00000015 |"),
        "{text}"
    );
}

#[tokio::test]
async fn a_query_over_the_folder_needs_no_set_up() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    checkpoints.write(&[entry(1)]).await.unwrap();
    checkpoints.write(&[entry(2)]).await.unwrap();
    checkpoints.write_schema(&[learned("A"), learned("B")]).await.unwrap();
    checkpoints.write_schema(&[learned("A"), learned("B"), learned("C")]).await.unwrap();
    // As datafusion-cli does: a path in the place of a table.
    let context = SessionContext::new().enable_url_table();
    let files = folder.path().display();
    let queries = [
        (format!("SELECT count(*), max(epoch) FROM '{files}/**/*.parquet'"), "| 2        | 2 "),
        (
            format!("SELECT count(*), max(column_name) FROM '{files}/schema/*.parquet'"),
            "| 3        | C ",
        ),
    ];
    for (sql, expected) in queries {
        let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn many_files_become_one_with_every_epoch_once() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    for epoch in 1..=COMPACT_AT as u64 {
        checkpoints.write(&[entry(epoch)]).await.unwrap();
    }
    checkpoints.tidy(SystemTime::now()).await.unwrap();
    assert_eq!(checkpoints.list().await.unwrap().len(), 1);
    let text =
        query(folder.path(), "SELECT COUNT(*), COUNT(DISTINCT epoch) FROM checkpoints").await;
    assert!(text.contains(&format!("| {COMPACT_AT}       | {COMPACT_AT} ")), "{text}");
}

#[tokio::test]
async fn parts_that_a_crash_left_beside_their_merged_file_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    checkpoints.write(&[entry(1), entry(2)]).await.unwrap();
    checkpoints.write(&[entry(1)]).await.unwrap();
    checkpoints.tidy(SystemTime::now()).await.unwrap();
    let left: Vec<_> = checkpoints.list().await.unwrap().iter().map(|stored| stored.file).collect();
    assert_eq!(left, [CheckpointFile { first: Epoch(1), last: Epoch(2) }]);
}

/// Epoch, run, first and last id, and rows of orders.
async fn read_back(
    checkpoints: &Checkpoints,
    first: u64,
) -> Vec<(u64, Option<String>, u64, u64, i64)> {
    let mut read = Vec::new();
    let take = |recorded: RecordedEpoch| {
        let (first, last) = recorded.offsets.ranges().next().unwrap();
        let orders = recorded.landed["orders"];
        assert_eq!(
            (recorded.queue.as_str(), recorded.opened_at, recorded.committed_at),
            ("cdc", 1, 3)
        );
        read.push((recorded.epoch.0, recorded.run_id, first.id, last, orders));
    };
    checkpoints.read_from(Epoch(first), take).await.unwrap();
    read.sort();
    read
}

#[tokio::test]
async fn epochs_are_read_back_once_each_whatever_crashes_have_left() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    checkpoints.write(&[entry(1), entry(2), entry(3)]).await.unwrap();
    checkpoints.write(&[entry(2)]).await.unwrap();
    checkpoints.write(&[entry(4)]).await.unwrap();
    let run = || Some("run".to_owned());
    let expected = [(2, run(), 20, 21, 2), (3, run(), 30, 31, 2), (4, run(), 40, 41, 2)];
    assert_eq!(read_back(&checkpoints, 2).await, expected);
    assert_eq!(read_back(&checkpoints, 5).await, []);
}

#[tokio::test]
async fn files_of_earlier_releases_are_read_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    for epoch in 1..=COMPACT_AT as u64 {
        checkpoints.write(&[entry(epoch)]).await.unwrap();
    }
    // As they were before runs were noted.
    let file = CheckpointFile { first: Epoch(1), last: Epoch(1) };
    let path = checkpoints.naming.path(&file);
    let bytes = checkpoints.get(&path).await.unwrap();
    let batches = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes);
    let mut batch = batches.unwrap().build().unwrap().next().unwrap().unwrap();
    batch.remove_column(batch.schema().index_of("run_id").unwrap());
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    checkpoints.put(&path, writer.into_inner().unwrap()).await.unwrap();
    assert_eq!(read_back(&checkpoints, 1).await[0], (1, None, 10, 11, 2));
    checkpoints.tidy(SystemTime::now()).await.unwrap();
    let read = read_back(&checkpoints, 1).await;
    assert_eq!(read.len(), COMPACT_AT);
    assert_eq!((&read[0].1, &read[1].1), (&None, &Some("run".to_owned())));
}

#[tokio::test]
async fn a_large_file_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    // It would have to be read for that, and it is no Parquet.
    let large = checkpoints.naming.path(&CheckpointFile { first: Epoch(1), last: Epoch(9) });
    checkpoints.put(&large, vec![0; SMALL as usize]).await.unwrap();
    for epoch in 10..10 + COMPACT_AT as u64 {
        checkpoints.write(&[entry(epoch)]).await.unwrap();
    }
    checkpoints.tidy(SystemTime::now()).await.unwrap();
    let files: Vec<_> =
        checkpoints.list().await.unwrap().iter().map(|stored| stored.file).collect();
    let numbers = [(1, 9), (10, 9 + COMPACT_AT as u64)];
    assert_eq!(
        files,
        numbers.map(|(first, last)| CheckpointFile { first: Epoch(first), last: Epoch(last) })
    );
    assert_eq!(read_back(&checkpoints, 10).await.len(), COMPACT_AT);
}

#[tokio::test]
async fn pipelines_share_a_folder_and_not_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let sales = open(folder.path());
    let url = folder.path().to_str().unwrap().to_owned();
    let other =
        Checkpoints::new(&CheckpointConfig { url, ..CheckpointConfig::default() }, "sales-epochs")
            .unwrap();
    sales.write(&[entry(7)]).await.unwrap();
    other.write(&[entry(9)]).await.unwrap();
    assert_eq!(sales.newest().await.unwrap(), Some(Epoch(7)));
    assert_eq!(other.newest().await.unwrap(), Some(Epoch(9)));
}

#[tokio::test]
async fn old_files_expire_but_the_newest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    checkpoints.write(&[entry(1)]).await.unwrap();
    checkpoints.write(&[entry(2)]).await.unwrap();
    let much_later = SystemTime::now() + Duration::from_secs(30 * 86_400);
    checkpoints.tidy(much_later).await.unwrap();
    assert_eq!(checkpoints.newest().await.unwrap(), Some(Epoch(2)));
    assert_eq!(checkpoints.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_unwritable_folder_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = open(folder.path());
    checkpoints.try_out().await.unwrap();
    std::fs::remove_dir_all(folder.path()).unwrap();
    std::fs::write(folder.path(), "a file where the folder was").unwrap();
    let error = checkpoints.write(&[entry(1)]).await.unwrap_err();
    assert!(error.to_string().contains("check space and permissions"), "{error}");
    std::fs::remove_file(folder.path()).unwrap();
}

#[tokio::test]
async fn a_file_in_the_place_of_the_folder_is_named_until_it_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mount");
    std::fs::write(&file, "in the way").unwrap();
    for place in [file.clone(), file.join("checkpoints")] {
        let checkpoints = open(&place);
        let error = checkpoints.newest().await.unwrap_err().to_string();
        let says = format!("{} (checkpoint.url) is a file and not a folder", file.display());
        assert!(error.starts_with(&says), "{error}");
    }
    let checkpoints = open(&file);
    checkpoints.write(&[entry(1)]).await.unwrap_err();
    std::fs::remove_file(&file).unwrap();
    checkpoints.write(&[entry(1)]).await.unwrap();
    assert_eq!(checkpoints.newest().await.unwrap(), Some(Epoch(1)));
}

#[test]
fn an_unknown_scheme_is_refused_before_any_storage_is_touched() {
    for url in ["ftp://x/y", ""] {
        let config = CheckpointConfig { url: url.into(), ..CheckpointConfig::default() };
        let error = Checkpoints::new(&config, "sales").unwrap_err();
        let says = format!("'{url}' is neither a path, file:///path nor s3://bucket/prefix");
        assert!(error.to_string().contains(&says), "{error}");
        assert!(config.problems()[0].contains(&says), "{:?}", config.problems());
    }
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("not/made").to_str().unwrap().to_owned();
    let config = CheckpointConfig { url: url.clone(), ..CheckpointConfig::default() };
    Checkpoints::new(&config, "sales").unwrap();
    assert_eq!((config.problems(), std::fs::exists(url).unwrap()), (Vec::new(), false));
}
