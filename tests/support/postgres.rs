//! A PostgreSQL server of its own for one test: a temporary data folder, a free port of the
//! loopback interface, gone when the value is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidemark_dev::stack::free_port;
use tokio_postgres::{Client, NoTls};

const START_LIMIT: Duration = Duration::from_secs(60);

/// Whether the server must survive its own crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Faster; for tests that don't kill it.
    Off,
    On,
}

/// A running server; stopped on drop, also when the test panics.
pub(crate) struct PostgresServer {
    folder: TempDir,
    places: Places,
    binaries: PathBuf,
    port: u16,
    durability: Durability,
    /// Further settings: name and value.
    settings: Vec<(String, String)>,
    postmaster: Option<Child>,
    run_as: Option<(u32, u32)>,
}

/// Where parts of a cluster are that are not in the server's own folder. Its log of changes then has files of a
/// megabyte.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) data: Option<PathBuf>,
    pub(crate) wal: Option<PathBuf>,
}

impl PostgresServer {
    /// Makes a cluster and starts it; panics with the server's log if it does not come up.
    pub(crate) async fn start(durability: Durability) -> Self {
        Self::start_with(durability, &[], |_| Vec::new()).await
    }

    /// The same with files (name, content) in a folder that only the server may read, and settings
    /// (name, value), which may name the folder.
    pub(crate) async fn start_with(
        durability: Durability,
        files: &[(&str, Vec<u8>)],
        settings: impl FnOnce(&Path) -> Vec<(String, String)>,
    ) -> Self {
        Self::create(durability, files, settings, Places::default()).await
    }

    /// The same on these disks, with settings (name, value).
    pub(crate) async fn start_on(places: Places, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let settings = settings.collect();
        Self::create(Durability::On, &[], |_| settings, places).await
    }

    async fn create(
        durability: Durability,
        files: &[(&str, Vec<u8>)],
        settings: impl FnOnce(&Path) -> Vec<(String, String)>,
        places: Places,
    ) -> Self {
        let binaries = find_binaries();
        let folder = tempfile::Builder::new()
            .prefix("tidemark-pg-")
            .tempdir()
            .expect("a folder for the cluster");
        let run_as = unprivileged_user();
        if let Some((uid, gid)) = run_as {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).expect("chown");
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
        let settings = settings(folder.path());
        let mut server = Self {
            folder,
            places,
            binaries,
            port: 0,
            durability,
            settings,
            postmaster: None,
            run_as,
        };
        server.init();
        for (name, content) in files {
            server.add_file(name, content);
        }
        server.port = free_port().expect("a free port");
        server.spawn().await;
        server
    }

    /// The URL of the database `postgres`, as its superuser.
    pub(crate) fn url(&self) -> String {
        self.url_through(self.port)
    }

    /// The same by another port, which is for proxies.
    pub(crate) fn url_through(&self, port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A client of its own.
    pub(crate) async fn client(&self) -> Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url(), NoTls).await.expect("the server is up");
        tokio::spawn(connection);
        client
    }

    /// SIGKILL to the postmaster: no shutdown, no flush; its children notice and go.
    pub(crate) fn kill(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            postmaster.kill().expect("SIGKILL");
            postmaster.wait().expect("the postmaster ends");
        }
    }

    /// As an administrator in a hurry: no shutdown, no flush, every session is ended.
    pub(crate) fn stop_immediately(&mut self) {
        let mut command = self.command("pg_ctl");
        command.args(["stop", "-m", "immediate", "-s", "-D"]).arg(self.data());
        assert!(command.status().expect("pg_ctl runs").success(), "{}", self.log());
        if let Some(mut postmaster) = self.postmaster.take() {
            postmaster.wait().expect("the postmaster ends");
        }
    }

    /// Starts the same cluster again on the same port, after [`Self::kill`].
    pub(crate) async fn restart(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if self.try_spawn().await {
                return;
            }
            // While children of the old one hold its shared memory, a start is refused.
            assert!(Instant::now() < deadline, "no restart: {}", self.log());
        }
    }

    /// The user that the server runs as, if it is not this process's.
    pub(crate) fn run_as(&self) -> Option<(u32, u32)> {
        self.run_as
    }

    fn add_file(&self, name: &str, content: &[u8]) {
        let path = self.folder.path().join(name);
        fs::write(&path, content).expect("a file for the server");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        self.give(&path);
    }

    /// Makes the server the owner of a file or folder.
    pub(crate) fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.run_as {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
        }
    }

    fn data(&self) -> PathBuf {
        self.places.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// What the server says.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn init(&self) {
        let mut initdb = self.command("initdb");
        let Places { data, wal } = &self.places;
        if data.is_some() || wal.is_some() {
            let wal = wal.clone().unwrap_or_else(|| self.folder.path().join("wal"));
            initdb.arg("--wal-segsize=1").arg("--waldir").arg(wal);
        }
        let output = initdb
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"])
            .args(["--no-sync", "--pgdata"])
            .arg(self.data())
            .output()
            .expect("initdb runs");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn spawn(&mut self) {
        assert!(self.try_spawn().await, "the server does not start: {}", self.log());
    }

    async fn try_spawn(&mut self) -> bool {
        let log = fs::File::create(self.folder.path().join("log")).expect("a log file");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        if self.durability == Durability::Off {
            command.args(["-c", "fsync=off", "-c", "synchronous_commit=off"]);
            command.args(["-c", "full_page_writes=off"]);
        }
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut postmaster = command.spawn().expect("postgres runs");
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if postmaster.try_wait().expect("the process can be asked").is_some() {
                return false;
            }
            if tokio_postgres::connect(&self.url(), NoTls).await.is_ok() {
                self.postmaster = Some(postmaster);
                return true;
            }
            // sleep: the server says nothing when it is ready, so it is asked again and again
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        postmaster.kill().expect("SIGKILL");
        postmaster.wait().expect("the postmaster ends");
        false
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir("/");
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            // SIGQUIT ends it at once: nobody needs the cluster any more.
            let _ = Command::new("kill").args(["-QUIT", &postmaster.id().to_string()]).status();
            let _ = postmaster.wait();
        }
    }
}

/// By PATH, else the newest version where Debian puts them.
fn find_binaries() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_both =
        |folder: &Path| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    if let Some(folder) = std::env::split_paths(&path).find(|folder| has_both(folder)) {
        return folder;
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|entry| entry.path().join("bin"))
        .filter(|folder| has_both(folder))
        .max_by_key(|folder| {
            let version = folder.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            version.and_then(|version| version.parse::<u32>().ok())
        })
        .expect("initdb and postgres in PATH or /usr/lib/postgresql/*/bin")
}

/// Postgres refuses to run as root: then as the user `postgres`.
fn unprivileged_user() -> Option<(u32, u32)> {
    let me = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").ok()?);
    if me != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let fields = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = fields.expect("root needs a user named postgres").split(':').skip(2);
    let mut number = || fields.next().and_then(|text| text.parse().ok()).expect("a number");
    Some((number(), number()))
}
