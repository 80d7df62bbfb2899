//! The two programs of Tidemark, which stand in one folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The processor's program, beside this one.
///
/// # Errors
/// If it is not there.
pub(crate) fn processor() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    beside(&own, "tidemark")
}

/// The program `name` in the folder of `program`.
///
/// # Errors
/// If it is not there.
pub(crate) fn beside(program: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = program.with_file_name(name);
    if !path.is_file() {
        bail!(
            "{} is not there: build both programs with `cargo build --workspace`",
            path.display()
        );
    }
    Ok(path)
}
