//! What the fuzzers begin with and what they found. They look for more than fits into a test: see `make fuzz`.

use std::path::Path;

use super::{decimals, events, times};

/// Every file of a folder under `tests`, so that a new finding is a test once it is there.
fn each(folder: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let files =
        std::fs::read_dir(&folder).expect("a folder").map(|file| file.expect("a file").path());
    let files: Vec<_> = files.collect();
    assert!(files.len() > 2, "{}: {} files", folder.display(), files.len());
    for file in files {
        let input = std::fs::read(&file).expect("a file");
        let checked = std::panic::catch_unwind(|| check(&input));
        assert!(checked.is_ok(), "{}", file.display());
    }
}

#[test]
fn the_samples_keep_the_promises() {
    each("samples", events);
}

#[test]
fn what_fuzzers_found_keeps_the_promises() {
    each("fuzz/corpus/events", events);
    each("fuzz/corpus/decimals", decimals);
    each("fuzz/corpus/times", times);
}
