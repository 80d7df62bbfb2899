//! A private PostgreSQL server in a folder of its own, on loopback, for the demo and the benchmark.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

const START_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at a server that starts.
const PAUSE: Duration = Duration::from_millis(50);

/// A server and its folder. The server ends when this is dropped; the folder stays.
pub struct LocalPostgres {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl LocalPostgres {
    /// Makes a new database cluster in `folder` and starts it with the settings of a default
    /// installation: every commit is durable.
    ///
    /// # Errors
    /// If PostgreSQL is not installed, or does not start; its log is in the folder.
    pub async fn create(folder: &Path, port: u16) -> anyhow::Result<Self> {
        let binaries = binaries()?;
        let data = folder.join("postgres");
        std::fs::create_dir_all(&data)?;
        if is_root() {
            run("chown", &["postgres".as_ref(), data.as_os_str()]).await?;
        }
        let log = File::create(folder.join("postgres.log"))?;
        let mut initdb = as_server_user(&binaries.join("initdb"));
        initdb.arg("-D").arg(&data).args([
            "-U",
            "tidemark",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]);
        let made = initdb.stdout(log.try_clone()?).stderr(log).status().await?;
        if !made.success() {
            bail!("initdb failed; see {}", folder.join("postgres.log").display());
        }
        let mut postgres = Self { binaries, folder: folder.to_owned(), port, server: None };
        postgres.start().await?;
        Ok(postgres)
    }

    /// The server of a folder that `create` made, not started.
    ///
    /// # Errors
    /// If PostgreSQL is not installed or there is no such folder.
    pub fn existing(folder: &Path, port: u16) -> anyhow::Result<Self> {
        let data = folder.join("postgres");
        if !data.exists() {
            bail!("{} is not there", data.display());
        }
        Ok(Self { binaries: binaries()?, folder: folder.to_owned(), port, server: None })
    }

    /// A command on the server's own `psql`.
    pub fn psql(&self) -> Command {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.arg(self.url());
        psql
    }

    /// Starts the server; one must not be running on the folder.
    ///
    /// # Errors
    /// If it does not take connections within 30 s.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        // After a crash the old server's children hold its shared memory for a moment, and until
        // they have noticed and gone, a new server ends at once.
        while !self.try_start(deadline).await? {
            if Instant::now() > deadline {
                bail!(
                    "PostgreSQL does not start; see {}",
                    self.folder.join("postgres.log").display()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Waits for connections; `false` if the server ends instead.
    async fn try_start(&mut self, deadline: Instant) -> anyhow::Result<bool> {
        let log =
            File::options().create(true).append(true).open(self.folder.join("postgres.log"))?;
        let mut command = as_server_user(&self.binaries.join("postgres"));
        command.arg("-D").arg(self.folder.join("postgres")).args(["-p", &self.port.to_string()]);
        command.args(["-k", "", "-c", "listen_addresses=127.0.0.1"]);
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for this program, which then ends the server in order.
        let mut server = command.process_group(0).spawn()?;
        while !self.is_ready().await? {
            if server.try_wait()?.is_some() || Instant::now() > deadline {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.server = Some(server);
        Ok(true)
    }

    async fn is_ready(&self) -> anyhow::Result<bool> {
        let mut ready = Command::new(self.binaries.join("pg_isready"));
        let port = self.port.to_string();
        ready.args(["-q", "-h", "127.0.0.1", "-p", &port, "-U", "tidemark"]);
        Ok(ready.status().await?.success())
    }

    /// Ends the server as a crash would.
    ///
    /// # Errors
    /// If there is no such process any more.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut server) = self.server.take() {
            server.kill().await?;
        }
        Ok(())
    }

    /// A connection URL of the superuser.
    pub fn url(&self) -> String {
        format!("postgres://tidemark@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends the server in good order ("fast": open transactions are rolled back).
    ///
    /// # Errors
    /// If the server can't be signalled.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        if let Some(pid) = server.id() {
            run("kill", &["-INT".as_ref(), pid.to_string().as_ref()]).await?;
        }
        server.wait().await?;
        Ok(())
    }
}

async fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> anyhow::Result<()> {
    let status = Command::new(program).args(arguments).status().await?;
    if !status.success() {
        bail!("{program} {arguments:?} failed");
    }
    Ok(())
}

/// PostgreSQL refuses to run as root, so root hands over to the user that Debian's package makes.
fn as_server_user(program: &Path) -> Command {
    let mut command = if is_root() {
        // setpriv stays one process, so that a signal reaches the server itself.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // The server user may not enter the folder that the caller is in.
    command.current_dir("/").kill_on_drop(true);
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

const PROGRAMS: [&str; 4] = ["initdb", "postgres", "pg_isready", "psql"];

/// The folder of the server's programs: on PATH, or Debian's newest.
fn binaries() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|e| e.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    folders.extend(debian.into_iter().rev());
    let is_complete =
        |folder: &PathBuf| PROGRAMS.iter().all(|program| folder.join(program).exists());
    let found = folders.into_iter().find(is_complete);
    found.context(
        "PostgreSQL's initdb is not on PATH: install the package postgresql (make setup does)",
    )
}
