//! A pgbouncer of its own before a test's server: transaction mode, and each transaction goes to another
//! of its server connections if one is free. Gone when the value is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidemark_dev::stack::free_port;

pub(crate) struct Pooler {
    folder: TempDir,
    port: u16,
    user: String,
    process: Child,
}

/// Server connections, all of which are opened at once.
pub(crate) const SERVER_CONNECTIONS: usize = 5;

impl Pooler {
    /// Before the server at `port`, for its `user`; as the operating system's user `run_as`, if that is another one.
    /// With `tls` (certificate and key) every client must come by it.
    pub(crate) async fn start(
        (port, user): (u16, &str),
        run_as: Option<(u32, u32)>,
        tls: Option<(&Path, &Path)>,
    ) -> Self {
        let server_port = port;
        let folder = tempfile::tempdir().expect("a folder for pgbouncer");
        let port = free_port().expect("a free port");
        write(folder.path(), "users", &format!("\"{user}\" \"\"\n"));
        let tls = tls.map(|(certificate, key)| {
            let copy = |name: &str, from: &Path| {
                let text = fs::read_to_string(from).expect("a file in PEM form");
                let path = write(folder.path(), name, &text);
                if let Some((uid, gid)) = run_as {
                    std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("chown");
                }
                path.display().to_string()
            };
            format!(
                "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
                copy("pooler.pem", certificate),
                copy("pooler.key", key)
            )
        });
        let config = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}/users\nadmin_users = {user}\n\
             pool_mode = transaction\nserver_round_robin = 1\n\
             default_pool_size = {SERVER_CONNECTIONS}\nmin_pool_size = {SERVER_CONNECTIONS}\n{}",
            server_port,
            folder.path().display(),
            tls.unwrap_or_default()
        );
        let config = write(folder.path(), "pgbouncer.ini", &config);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let log = fs::File::create(folder.path().join("log")).expect("a log file");
        let mut command = Command::new(program());
        command.arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if let Some((uid, gid)) = run_as {
            command.uid(uid).gid(gid);
        }
        let process = command.spawn().expect("pgbouncer runs");
        let mut pooler = Self { folder, port, user: user.to_owned(), process };
        pooler.wait_until_up().await;
        pooler
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://{}@127.0.0.1:{}/postgres", self.user, self.port)
    }

    async fn wait_until_up(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let has_ended = self.process.try_wait().expect("it can be asked").is_some();
            assert!(!has_ended && Instant::now() < deadline, "pgbouncer does not start: {log}");
            // sleep: it says nothing when it is ready, so it is asked again and again
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file for pgbouncer");
    path
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let program = folders.map(|folder| folder.join("pgbouncer")).find(|file| file.is_file());
    program.expect("pgbouncer; .ci/setup installs it")
}
