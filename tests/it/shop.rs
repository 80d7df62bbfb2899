//! A stack with the shipped SQL, and how tests wait for it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidemark::model::LedgerPosition;
use tidemark::sink::Sink;
use tidemark::sink::postgres::{PostgresConfig, PostgresSink};
use tidemark_dev::stack::{PIPELINE, QUEUE, Settings, Stack, end};
use tokio::process::Child;

/// Long, because a development build on a busy machine is slow; no test passes by waiting it out.
const PATIENCE: Duration = Duration::from_secs(180);

/// Messages of a second queue per event: the ids of a queue have gaps on every broker that has another one.
const NEIGHBOURS: f64 = 0.3;

/// A stack and the folder that it lives in.
pub(crate) struct Shop {
    pub(crate) stack: Stack,
    _folder: TempDir,
}

pub(crate) fn sql_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql")
}

/// A copy of the shipped SQL, that a test may edit.
pub(crate) fn copied_sql(into: &Path) -> PathBuf {
    let copy = into.join("sql");
    for part in ["tables", "transforms", "ods"] {
        std::fs::create_dir_all(copy.join(part)).expect("a folder");
        for entry in std::fs::read_dir(sql_folder().join(part)).expect("the shipped SQL") {
            let from = entry.expect("a file").path();
            let to = copy.join(part).join(from.file_name().expect("a name"));
            std::fs::copy(from, to).expect("a copy");
        }
    }
    copy
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_with(|settings| settings).await
    }

    pub(crate) async fn open_with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let folder = tempfile::Builder::new().prefix("tidemark-it-").tempdir().expect("a folder");
        // The server user of PostgreSQL has to get through.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), permissions).expect("permissions");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_tidemark"));
        let settings = Settings::new(program, folder.path().join("stack"), &sql_folder());
        let settings = Settings { neighbours: NEIGHBOURS, ..settings };
        let stack = Stack::start(change(settings)).await.expect("a stack");
        Self { stack, _folder: folder }
    }

    /// Processors read a file, or a folder of files, and no queue; with further `sections`.
    pub(crate) fn read_file(&self, path: &Path, sections: &str) {
        let place = self.stack.folder().join("tidemark.toml");
        let mut config = std::fs::read_to_string(&place).expect("a configuration");
        let start = config.find("[source]").expect("a source");
        let end = config.find("[sink.postgres]").expect("a sink");
        let source = format!("[source]\nkind = 'file'\npath = '{}'\n\n{sections}", path.display());
        config.replace_range(start..end, &source);
        std::fs::write(&place, config).expect("written");
    }

    /// Runs a processor over a file of these lines, in batches of so many messages. What it has read of a file
    /// of this name before is at its beginning.
    pub(crate) async fn replay(&self, name: &str, (lines, batch): (&[String], usize)) {
        let path = self.stack.folder().join(format!("{name}.ndjson"));
        std::fs::write(&path, lines.join("\n") + "\n").expect("events");
        let place = self.stack.folder().join("tidemark.toml");
        let kept = std::fs::read_to_string(&place).expect("a configuration");
        self.read_file(&path, "");
        let config = std::fs::read_to_string(&place).expect("a configuration");
        let line = config.lines().find(|line| line.starts_with("max_messages"));
        let size = format!("max_messages = {batch}");
        let config = config.replace(line.expect("a limit"), &size);
        std::fs::write(&place, config).expect("written");
        let mut processor = self.stack.processor(None).expect("a processor");
        assert!(self.wait_for_end(&mut processor).await, "{}", self.log_tail("run"));
        std::fs::write(&place, kept).expect("written");
    }

    /// What the ledger says, or nothing while there is none.
    pub(crate) async fn ledger(&self) -> Option<LedgerPosition> {
        let config = PostgresConfig::from_url(self.stack.postgres.url());
        let mut sink = PostgresSink::new(config, PIPELINE, QUEUE).expect("a valid URL");
        sink.resume().await.ok()
    }

    pub(crate) async fn committed(&self) -> u64 {
        self.ledger().await.map_or(0, |position| position.offsets.count())
    }

    /// Waits until the ledger holds `count` messages.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: u64) -> impl Future<Output = ()> + '_ {
        let caller = std::panic::Location::caller();
        let started = Instant::now();
        async move {
            loop {
                let committed = self.committed().await;
                if committed >= count {
                    return;
                }
                let log = self.log_tail("run");
                assert!(
                    started.elapsed() < PATIENCE,
                    "{caller}: {committed} of {count} messages\n{log}"
                );
                pause().await;
            }
        }
    }

    /// Waits until a process ends by itself.
    #[track_caller]
    pub(crate) fn wait_for_end<'a>(
        &'a self,
        child: &'a mut Child,
    ) -> impl Future<Output = bool> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
            let status =
                ended.unwrap_or_else(|_| panic!("{caller}: no end\n{}", self.log_tail("run")));
            status.expect("the process can be waited for").success()
        }
    }

    pub(crate) fn log_tail(&self, program: &str) -> String {
        let path = self.stack.folder().join(format!("{program}.log"));
        let log = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// How often the processor has loaded its state.
    pub(crate) fn loads(&self) -> usize {
        let path = self.stack.folder().join("run.log");
        std::fs::read_to_string(path).unwrap_or_default().matches("state is loaded").count()
    }

    pub(crate) async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let (client, connection) =
            tokio_postgres::connect(&self.stack.postgres.url(), tokio_postgres::NoTls)
                .await
                .expect("Postgres");
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let rows = messages.into_iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        });
        rows.collect()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let rows = self.query(sql).await;
        rows[0][0].as_deref().expect("a value").parse().expect("a number")
    }

    /// Ends a processor by SIGTERM, as a container platform does.
    pub(crate) async fn end(&self, processor: &mut Child) {
        end(processor, Duration::from_secs(30)).await.expect("the processor ends");
    }
}

/// Between two looks at a state that a test waits for.
pub(crate) async fn pause() {
    // sleep: the pace of looking at a state that is waited for
    tokio::time::sleep(Duration::from_millis(10)).await;
}
