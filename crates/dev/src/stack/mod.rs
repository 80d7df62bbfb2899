//! Broker, PostgreSQL and processor as processes of this machine: for the demo, the benchmark and tests.
//!
//! Everything listens on free loopback ports and lives in one folder; all of it ends with the stack.

mod local_postgres;
mod observer;
mod ports;

pub use local_postgres::LocalPostgres;
pub use observer::{Observer, quantile};
pub use ports::free_port;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::programs;

/// The `[[xml]]` sections of the container's configuration.
const MAPPINGS: &str = include_str!("xml.toml");

/// Those, if the SQL makes the tables that their rows land in.
pub fn shipped_mappings(sql: &Path) -> &'static str {
    if sql.join("ods/07_xml.sql").exists() { MAPPINGS } else { "" }
}

pub const PIPELINE: &str = "sales";
pub const QUEUE: &str = "cdc";

/// What a stack runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `tidemark` program.
    pub program: PathBuf,
    /// Emptied at the start.
    pub folder: PathBuf,
    /// The folder with `tables/`, `transforms/` and `ods/`.
    pub sql: PathBuf,
    pub max_messages: usize,
    pub max_unacked: usize,
    /// `exclusive` or `non-exclusive`.
    pub access: &'static str,
    /// Of checkpoints, such as `10s`.
    pub checkpoint_interval: &'static str,
    /// A section of the processor's configuration that is put at its end.
    pub more_config: String,
    /// Sections that are put at the end of the broker's configuration.
    pub broker_config: &'static str,
    /// Messages per event that generators publish to a second queue at the same time, so that the ids of ours have gaps;
    /// then they also record what they publish. 0: neither.
    pub neighbours: f64,
    /// Of the target's circuit breaker, such as `30s`.
    pub breaker_pause: &'static str,
}

impl Settings {
    /// The default limits, for a stack in `folder`.
    pub fn new(program: PathBuf, folder: PathBuf, sql: &Path) -> Self {
        Self {
            program,
            folder,
            sql: sql.to_owned(),
            max_messages: 5_000,
            max_unacked: 10_000,
            access: "exclusive",
            checkpoint_interval: "10s",
            more_config: String::new(),
            broker_config: "",
            neighbours: 0.0,
            breaker_pause: "30s",
        }
    }
}

/// Running servers, and where they are.
pub struct Stack {
    settings: Settings,
    pub postgres: LocalPostgres,
    broker: Option<Child>,
    broker_port: u16,
    /// Where the broker tells of its queues.
    pub semp_port: u16,
    pub http_port: u16,
}

impl Stack {
    /// Starts PostgreSQL and the development broker.
    ///
    /// # Errors
    /// If one of them does not start; its log is in the folder.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        // The processor's program starts it for the broker and the generator.
        programs::beside(&settings.program, "tidemark-dev")?;
        let folder = &settings.folder;
        if folder.exists() {
            std::fs::remove_dir_all(folder)
                .with_context(|| format!("emptying {}", folder.display()))?;
        }
        std::fs::create_dir_all(folder)?;
        let (broker_port, http_port) = (free_port()?, free_port()?);
        let semp_port = free_port()?;
        let postgres = LocalPostgres::create(folder, free_port()?).await?;
        let mut stack =
            Self { settings, postgres, broker: None, broker_port, semp_port, http_port };
        std::fs::write(stack.folder().join("broker.toml"), stack.broker_config())?;
        std::fs::write(stack.folder().join("tidemark.toml"), stack.config()?)?;
        stack.start_broker().await?;
        Ok(stack)
    }

    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// The broker's address for clients.
    pub fn broker_url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.broker_port)
    }

    /// Starts the broker on its folder.
    ///
    /// # Errors
    /// If it does not listen within 10 s.
    pub async fn start_broker(&mut self) -> anyhow::Result<()> {
        let mut command = self.tidemark("broker")?;
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.broker_port));
        command.arg("--semp-listen").arg(format!("127.0.0.1:{}", self.semp_port));
        command.arg("--data").arg(self.folder().join("broker"));
        command.arg("--config").arg(self.folder().join("broker.toml"));
        let mut broker = command.spawn()?;
        wait_for_port(self.broker_port, &mut broker).await?;
        self.broker = Some(broker);
        Ok(())
    }

    /// Ends the broker as a crash would.
    ///
    /// # Errors
    /// If there is no such process any more.
    pub async fn kill_broker(&mut self) -> anyhow::Result<()> {
        if let Some(mut broker) = self.broker.take() {
            broker.kill().await?;
        }
        Ok(())
    }

    /// Starts a processor; with `failpoint`, one that dies there.
    ///
    /// # Errors
    /// If the program can't be started.
    pub fn processor(&self, failpoint: Option<&str>) -> anyhow::Result<Child> {
        let mut command = self.tidemark("run")?;
        if let Some(failpoint) = failpoint {
            command.env("TIDEMARK_FAILPOINT", failpoint);
        }
        Ok(command.arg("--config").arg(self.folder().join("tidemark.toml")).spawn()?)
    }

    /// Starts a generator that publishes to the stack's broker.
    ///
    /// # Errors
    /// If the program can't be started.
    pub fn generator(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        let mut command = self.tidemark("generate")?;
        command.arg("--broker").arg(self.broker_url());
        if self.settings.neighbours > 0.0 {
            command.arg("--neighbours").arg(self.settings.neighbours.to_string());
            command.arg("--record").arg(self.record());
        }
        Ok(command.args(arguments).spawn()?)
    }

    /// How many messages the broker has acknowledged to the generators so far, by their own word.
    ///
    /// # Errors
    /// If a generator did not come to its end.
    pub fn published(&self) -> anyhow::Result<u64> {
        let log = std::fs::read_to_string(self.folder().join("generate.log"))?;
        let lines = log.lines().filter_map(|line| line.strip_prefix("acknowledged "));
        let counts = lines.filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        counts.reduce(|sum, count| sum + count).context("no generator said how much it published")
    }

    /// What generators have published, one payload a line; empty without neighbours.
    pub fn record(&self) -> PathBuf {
        self.folder().join("published.ndjson")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.folder().join("checkpoints")
    }

    /// Ends broker and PostgreSQL.
    ///
    /// # Errors
    /// If a process can't be signalled.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(mut broker) = self.broker.take() {
            end(&mut broker, Duration::from_secs(10)).await?;
        }
        self.postgres.stop().await
    }

    /// This program again, with its log in the folder.
    fn tidemark(&self, subcommand: &str) -> anyhow::Result<Command> {
        let log = self.folder().join(format!("{subcommand}.log"));
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.settings.program);
        command.arg(subcommand).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for the caller, which then ends the others in order.
        command.process_group(0).kill_on_drop(true);
        Ok(command)
    }

    fn config(&self) -> anyhow::Result<String> {
        let settings = &self.settings;
        let sql = settings.sql.canonicalize();
        let sql = sql.with_context(|| format!("{} is not there", settings.sql.display()))?;
        Ok(format!(
            "pipeline = '{PIPELINE}'\n\n\
             [source]\nkind = 'solace'\nhost = '{}'\nusername = 'demo'\npassword = 'demo'\n\
             queue = '{QUEUE}'\nmax_unacked = {}\n\n\
             [source.semp]\nurl = 'http://127.0.0.1:{}'\nusername = 'demo'\npassword = 'demo'\ninterval = '1s'\n\n\
             [sink.postgres]\nurl = '{}'\nbreaker_pause = '{}'\n\n\
             [sql]\nfolder = '{}'\n\n\
             [batch]\nmax_messages = {}\n\n\
             [checkpoint]\nurl = '{}'\ninterval = '{}'\n\n\
             [state]\npath = '{}'\n\n\
             [http]\nlisten = '127.0.0.1:{}'\n\n{}",
            self.broker_url(),
            settings.max_unacked,
            self.semp_port,
            self.postgres.url(),
            settings.breaker_pause,
            sql.display(),
            settings.max_messages,
            self.checkpoints().display(),
            settings.checkpoint_interval,
            self.folder().join("state").display(),
            self.http_port,
            settings.more_config
        ))
    }

    /// The queue is there from the start, so that nothing published before the processor is lost.
    fn broker_config(&self) -> String {
        format!(
            "max_unacked_per_flow = {}\n\n[[queues]]\nname = '{QUEUE}'\ntopics = ['cdc/oracle/>']\naccess = '{}'\n\n\
             [[queues]]\nname = 'neighbours'\ntopics = ['neighbours/>']\n\n{}",
            self.settings.max_unacked, self.settings.access, self.settings.broker_config
        )
    }
}

/// Ends a process by SIGTERM, and by SIGKILL if it takes too long.
///
/// # Errors
/// If the process can't be signalled.
pub async fn end(child: &mut Child, patience: Duration) -> anyhow::Result<()> {
    if let Some(pid) = child.id() {
        Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await?;
    }
    if tokio::time::timeout(patience, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

async fn wait_for_port(port: u16, server: &mut Child) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if let Some(status) = server.try_wait()? {
            bail!("the broker ended at once ({status}); see its log");
        }
        if Instant::now() > deadline {
            bail!("the broker does not listen on port {port}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
