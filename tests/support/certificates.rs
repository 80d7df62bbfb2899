//! Certificates for one test, made by the `openssl` command and gone when the value is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// An authority that signs certificates.
pub(crate) struct Authority {
    folder: TempDir,
}

/// Two files in PEM form.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for certificates");
        make(folder.path(), "authority", "basicConstraints = critical, CA:TRUE", None);
        Self { folder }
    }

    /// The file with its own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A certificate for `names`, such as `DNS:db.example, IP:127.0.0.1`.
    pub(crate) fn issue(&self, name: &str, names: &str) -> Pair {
        let extensions = format!("basicConstraints = CA:FALSE\nsubjectAltName = {names}");
        make(self.folder.path(), name, &extensions, Some("authority"))
    }

    /// A certificate for `names` that nobody else has signed, as the manual of Postgres makes it.
    pub(crate) fn self_signed(&self, name: &str, names: &str) -> Pair {
        let extensions = format!("basicConstraints = critical, CA:TRUE\nsubjectAltName = {names}");
        make(self.folder.path(), name, &extensions, None)
    }
}

fn make(folder: &Path, name: &str, extensions: &str, signed_by: Option<&str>) -> Pair {
    let file = |name: &str, ending: &str| folder.join(format!("{name}.{ending}"));
    let config = format!(
        "[req]\ndistinguished_name = dn\nprompt = no\nx509_extensions = ext\n\
         [dn]\nCN = {name}\n[ext]\n{extensions}\n"
    );
    fs::write(file(name, "cnf"), config).expect("a file");
    let (certificate, key) = (file(name, "pem"), file(name, "key"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-days", "2", "-noenc", "-newkey", "ec"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-config"]).arg(file(name, "cnf"));
    command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    if let Some(by) = signed_by {
        command.arg("-CA").arg(file(by, "pem")).arg("-CAkey").arg(file(by, "key"));
    }
    let output = command.output().expect("the openssl command");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Pair { certificate, key }
}
