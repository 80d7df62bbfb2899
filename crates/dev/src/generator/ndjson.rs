//! Events into a file, one a line.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use super::{Config, Generator, GeneratorError};

/// Writes one event a line, as fast as it can; a tombstone is an empty line. Returns how many. Blocks.
///
/// Without [`Config::events`] and [`Config::duration`] it fills the disk.
///
/// # Errors
/// If the file cannot be written.
pub fn write_ndjson(config: &Config, path: &Path) -> Result<u64, GeneratorError> {
    write(config, path).map_err(|source| GeneratorError::File { path: path.to_owned(), source })
}

fn write(config: &Config, path: &Path) -> io::Result<u64> {
    let started = Instant::now();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut count = 0;
    for event in Generator::new(config) {
        if config.duration.is_some_and(|duration| started.elapsed() >= duration) {
            break;
        }
        file.write_all(&event.payload)?;
        file.write_all(b"\n")?;
        count += 1;
    }
    file.flush()?;
    Ok(count)
}
