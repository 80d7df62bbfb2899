//! Links the official Solace client library that `make setup` fetched into `vendor/`.
//!
//! Loader paths don't propagate from a library crate: the packages that have programs print them, from
//! `DEP_TIDEMARK_SOLACE_FOLDER`.

use std::path::{Path, PathBuf};
use std::{env, fs};

const SHARED_NAMES: [&str; 2] = ["libsolclient.so", "libsolclient.so.1"];

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-env-changed=SOLCLIENT_LIB_PATH");
    let vendor = PathBuf::from(env::var("SOLCLIENT_LIB_PATH").map_err(|_| missing(Path::new("")))?);
    println!("cargo:rerun-if-changed={}", vendor.display());
    let shared = vendor.join("libsolclient.so.1");
    let archive = vendor.join("libsolclient.a");
    if !shared.exists() {
        let size = fs::metadata(&archive).map(|m| m.len()).unwrap_or(0);
        // The vendor's own tarball holds real static libraries: solace-rs-sys links those alone.
        return if size > 1_000 { Ok(()) } else { Err(missing(&vendor)) };
    }
    link_shared(&shared)
}

/// Copies the library to `OUT_DIR`, which is on the loader path of `cargo run` and `cargo test`.
fn link_shared(library: &Path) -> Result<(), String> {
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| e.to_string())?);
    for name in SHARED_NAMES {
        // By rename: a program that runs while another build comes by keeps the file that it has mapped.
        let new = out.join(format!("{name}.new"));
        let copied = fs::copy(library, &new).and_then(|_| fs::rename(&new, out.join(name)));
        copied.map_err(|e| format!("{}: {e}", library.display()))?;
    }
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=dylib=solclient");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", out.display());
    println!("cargo:folder={}", out.display());
    Ok(())
}

fn missing(folder: &Path) -> String {
    format!(
        "the Solace client library is not in '{}': run `make setup`, which fetches it",
        folder.display()
    )
}
