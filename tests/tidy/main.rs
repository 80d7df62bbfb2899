//! The rules about the shape of the code that no compiler or linter checks.

#![expect(clippy::panic, reason = "the message names a file that is no Rust")]

mod import_graph;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use import_graph::Imports;

/// Each module and the other modules of the crate that it may name. A new module needs a row.
///
/// Components meet as values: none of them names another, and only `pipeline` knows them all.
const IMPORTS: [(&str, &[&str]); 14] = [
    ("diagnosis", &[]),
    ("model", &[]),
    ("resilience", &[]),
    ("telemetry", &["model"]),
    ("source", COMPONENT),
    ("xml", &["model"]),
    ("decode", EXTRACTING),
    ("state", COMPONENT),
    ("transform", EXTRACTING),
    ("sink", &["diagnosis", "model", "resilience", "telemetry"]),
    ("checkpoint", COMPONENT),
    ("dashboard", &["model", "telemetry"]),
    ("config", CONFIGURED),
    ("pipeline", PROCESSOR),
];
const COMPONENT: &[&str] = &["model", "resilience", "telemetry"];
const EXTRACTING: &[&str] = &["model", "resilience", "telemetry", "xml"];
const CONFIGURED: &[&str] = &[
    "model",
    "resilience",
    "telemetry",
    "source",
    "decode",
    "state",
    "transform",
    "xml",
    "sink",
    "checkpoint",
    "dashboard",
];
const PROCESSOR: &[&str] = &[
    "model",
    "resilience",
    "telemetry",
    "source",
    "decode",
    "state",
    "transform",
    "xml",
    "sink",
    "checkpoint",
    "dashboard",
    "config",
];
/// What starts everything: these may name any module, and no module names them.
const ENTRY: [&str; 3] = ["main", "lib", "cli"];

const MAX_LINES: usize = 500;
/// Directly in one folder: more make a list, not a room.
const MAX_FILES: usize = 15;
/// One file or one folder.
const FFI: [&str; 2] = ["crates/solace/src/ffi.rs", "crates/solace/src/ffi/"];
const VAGUE_NAMES: [&str; 5] = ["utils", "common", "helpers", "types", "manager"];

// Split, so that this file does not break its own rules.
const UNSAFE: &str = concat!("uns", "afe");
const SLEEP: &str = concat!("sle", "ep(");
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

#[test]
fn modules_name_only_the_modules_in_their_row() {
    let mut wrong = Vec::new();
    for path in rust_files("src/") {
        let module = module_of(&path);
        if ENTRY.contains(&module) {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{path}: module '{module}' has no row in IMPORTS"));
            continue;
        };
        for (number, named) in crate_names(&code(&read(&path))) {
            if named != module && !allowed.contains(&named.as_str()) && is_module(&named) {
                wrong.push(format!("{path}:{number}: '{module}' may not name '{named}'"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn module_names_say_what_is_inside() {
    let vague = |path: &String| {
        let path = path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        VAGUE_NAMES.iter().any(|name| path.split('/').any(|part| part == *name))
    };
    let files = crate_roots().into_iter().flat_map(|root| rust_files(&root));
    assert_none(&files.filter(vague).collect::<Vec<_>>());
}

#[test]
fn source_files_stay_within_500_lines() {
    let lines = |path: &String| read(path).lines().count();
    let files = crate_roots().into_iter().flat_map(|root| rust_files(&root));
    let long = files.filter(|path| lines(path) > MAX_LINES);
    assert_none(&long.map(|path| format!("{path}: {} lines", lines(&path))).collect::<Vec<_>>());
}

#[test]
fn folders_hold_at_most_15_files() {
    let mut files: BTreeMap<String, usize> = BTreeMap::new();
    for path in rust_files("") {
        let folder = Path::new(&path).parent().expect("a file is in a folder");
        *files.entry(folder.display().to_string()).or_default() += 1;
    }
    let full = files.into_iter().filter(|(_, count)| *count > MAX_FILES);
    assert_none(
        &full.map(|(folder, count)| format!("{folder}: {count} files")).collect::<Vec<_>>(),
    );
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let mut wrong = Vec::new();
    for root in crate_roots() {
        tell_circles(&root, &import_graph::imports(&product_files(&root)), &mut wrong);
    }
    assert_none(&wrong);
}

/// A folder is one thing to the files and folders beside it.
#[test]
fn folders_do_not_import_each_other_in_a_circle() {
    let mut wrong = Vec::new();
    for root in crate_roots() {
        let imports = import_graph::imports(&product_files(&root));
        for folder in import_graph::folders(&imports) {
            tell_circles(&root, &import_graph::rooms(&imports, &folder), &mut wrong);
        }
    }
    assert_none(&wrong);
}

fn tell_circles(root: &str, imports: &Imports, wrong: &mut Vec<String>) {
    for circle in import_graph::circles(imports) {
        wrong.push(format!("{root}: {}", circle.join(", ")));
        for from in &circle {
            for (to, names) in imports[from].iter().filter(|(to, _)| circle.contains(to)) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                wrong.push(format!("    {from} takes {} from {to}", names.join(", ")));
            }
        }
    }
}

#[test]
fn only_the_solace_boundary_is_unsafe() {
    let mut wrong = Vec::new();
    for path in
        rust_files("").into_iter().filter(|path| !FFI.iter().any(|ffi| path.starts_with(ffi)))
    {
        for (number, line) in numbered(&code(&read(&path))) {
            if words(line).any(|word| word == UNSAFE) {
                wrong.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none(&wrong);
}

/// A test waits for a state. Where it must let time pass, `sleep: <why>` in a comment on that line
/// or the one above says so.
#[test]
fn tests_wait_for_states_not_for_time() {
    let mut wrong = Vec::new();
    for path in tracked() {
        if !(path.ends_with(".rs") || path.starts_with("tests/") && path.ends_with(".py")) {
            continue;
        }
        let text = read(&path);
        let mut in_tests =
            path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/");
        let mut above = "";
        for (number, line) in numbered(&text) {
            in_tests |= line.trim() == "#[cfg(test)]";
            let has_reason = [above, line].iter().any(|line| line.contains(" sleep: "));
            if in_tests && calls_sleep(line) && !has_reason {
                wrong.push(format!("{path}:{number}: {}", line.trim()));
            }
            above = line;
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut wrong = Vec::new();
    for path in tracked() {
        for (number, line) in numbered(&read(&path)) {
            if MACHINE_PATHS.iter().any(|machine| has_absolute(line, machine)) {
                wrong.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn files_that_the_documentation_mentions_exist() {
    let mut wrong = Vec::new();
    for page in tracked().into_iter().filter(|path| path == "README.md" || is_page(path)) {
        let text = read(&page);
        let folder = Path::new(&page).parent().unwrap_or(Path::new(""));
        for (number, line) in numbered(&text) {
            let linked = link_targets(line).map(|target| folder.join(target));
            let quoted = line.split('`').skip(1).step_by(2).filter(|text| is_repo_path(text));
            for path in linked.chain(quoted.map(|path| Path::new(path).to_owned())) {
                if !root().join(&path).exists() {
                    wrong.push(format!("{page}:{number}: there is no {}", path.display()));
                }
            }
        }
    }
    assert_none(&wrong);
}

/// `pipeline/session/batch` is a file or a folder of `src/`, as the page on the architecture names them.
#[test]
fn modules_that_the_architecture_mentions_exist() {
    const PAGE: &str = "docs/ARCHITECTURE.md";
    let mut wrong = Vec::new();
    for (number, line) in numbered(&read(PAGE)) {
        for quoted in line.split('`').skip(1).step_by(2).filter(|quoted| is_module_path(quoted)) {
            let path = root().join("src").join(quoted);
            if !path.is_dir() && !path.with_extension("rs").is_file() {
                wrong.push(format!("{PAGE}:{number}: there is no module {quoted}"));
            }
        }
    }
    assert_none(&wrong);
}

/// Whether a quoted text begins with one of our modules and goes on by `/`.
fn is_module_path(text: &str) -> bool {
    let is_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_/".contains(c);
    let module = text.split_once('/').map(|(module, _)| module);
    text.chars().all(is_path) && module.is_some_and(is_module)
}

#[test]
fn every_transform_says_what_it_writes_and_by_which_key() {
    let mut wrong = Vec::new();
    for path in tracked() {
        if !(path.starts_with("sql/transforms/") && path.ends_with(".sql")) {
            continue;
        }
        let text = read(&path);
        let header = || text.lines().take_while(|line| line.starts_with("--"));
        let has = |label: &str| header().any(|line| line.starts_with(label));
        // A query over the changes of an epoch only appends: its rows need no key.
        let appends = text.contains("_changes");
        if !(has("-- writes: ") && (has("-- key: ") || appends)) {
            wrong.push(format!("{path}: the header lacks `-- writes: ` or `-- key: `"));
        }
    }
    assert_none(&wrong);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files that are or would be committed, relative to the repository.
fn tracked() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is on the path");
    let listed = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let exists = |path: &&str| root().join(path).is_file();
    let files: BTreeSet<_> = listed.split('\0').filter(exists).map(str::to_owned).collect();
    assert!(!files.is_empty(), "git lists no files in {}", root().display());
    files.into_iter().collect()
}

fn rust_files(under: &str) -> Vec<String> {
    tracked().into_iter().filter(|path| path.starts_with(under) && path.ends_with(".rs")).collect()
}

/// The `src/` folders of the workspace's packages.
fn crate_roots() -> BTreeSet<String> {
    let root = |path: String| path.split_once("src/").map(|(before, _)| format!("{before}src/"));
    let is_package = |root: &String| !root.starts_with("tests/");
    rust_files("").into_iter().filter_map(root).filter(is_package).collect()
}

/// Paths below `root` and texts of all files but those of tests.
fn product_files(root: &str) -> Vec<(String, String)> {
    let is_test = |path: &String| path.ends_with("tests.rs") || path.contains("/tests/");
    let files = rust_files(root).into_iter().filter(|path| !is_test(path));
    files.map(|path| (path[root.len()..].to_owned(), read(&path))).collect()
}

fn read(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(root().join(path)).expect("git has just listed it"))
        .into_owned()
}

/// The text without `//` comments; the lines keep their numbers.
fn code(text: &str) -> String {
    let without =
        |line: &str| line.split_once("//").map_or(line, |(code, _)| code).to_owned() + "\n";
    text.lines().map(without).collect()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Not Postgres's own function: that keeps the server busy, not the test.
fn calls_sleep(line: &str) -> bool {
    let is_word = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    line.match_indices(SLEEP).any(|(at, _)| is_word(at))
}

/// `sink` of `src/sink/postgres/copy.rs` and of `src/sink.rs`.
fn module_of(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

fn is_module(name: &str) -> bool {
    let src = root().join("src");
    src.join(name).is_dir() || src.join(name).with_extension("rs").is_file()
}

/// The line number and first name of each path from the crate's root, also of `crate::{a, b::c}`.
fn crate_names(code: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        let number = code[..at].lines().count().max(1);
        let path = &code[at + prefix.len()..];
        let firsts = if path.starts_with('{') { group_heads(path) } else { vec![path] };
        names.extend(firsts.into_iter().filter_map(words_head).map(|name| (number, name)));
    }
    names
}

fn words_head(path: &str) -> Option<String> {
    words(path).next().map(str::to_owned)
}

/// The members of `{a, b::{c, d}}`, without splitting the inner groups.
fn group_heads(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut heads = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == '{' || c == ',') && depth == 1 {
            heads.push(&group[at + 1..]);
        }
        if depth == 0 {
            break;
        }
    }
    heads.retain(|head| !head.trim_start().starts_with('}'));
    heads
}

/// Whether `path` is in the line and starts there: `a/path` is relative and no machine's.
fn has_absolute(line: &str, path: &str) -> bool {
    let is_start = |at: usize| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "_-.~/}*".contains(c)))
    };
    line.match_indices(path).any(|(at, _)| is_start(at))
}

fn is_page(path: &str) -> bool {
    path.starts_with("docs/") && path.ends_with(".md")
}

/// The files that a Markdown line links to, without web addresses and anchors.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Whether a quoted text names one file or folder of this repository.
fn is_repo_path(text: &str) -> bool {
    const FOLDERS: [&str; 8] =
        ["src/", "crates/", "sql/", "tests/", "docs/", "docker/", "benches/", ".ci/"];
    let is_one = !text.contains(|c: char| c.is_whitespace() || "*<>${}…".contains(c));
    is_one && FOLDERS.iter().any(|folder| text.starts_with(folder))
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} found:\n{}", wrong.len(), wrong.join("\n"));
}
