//! The rules that keep the project readable, as tests: which file may name which library, how long a file may be, how many
//! names a folder shows, which files may import each other ([`imports`]), how prose is worded ([`words`]), and that one crate
//! is built with the dependencies of all ([`features`]).

mod features;
mod imports;
mod words;

use ndt_tests::workspace;
use std::path::{Path, PathBuf};

/// A library, and the only files and folders that may name it.
const FENCES: [(&str, &[&str]); 17] = [
    ("ort::", &["daemon/src/engine/onnx.rs", "daemon/src/engine/onnx/"]),
    ("hdf5::", &["replay/src/h5.rs", "replay/src/h5/"]),
    ("burn::", &["trainer/"]),
    ("libloading::", &["protocol/src/shared_library.rs"]),
    ("zerocopy::", &["protocol/src/wire.rs"]),
    ("sd_notify::", &["daemon/src/host/service.rs"]),
    ("crc32fast::", &["protocol/src/session_log/frame.rs"]),
    ("rtrb::", &["daemon/src/pipeline/recorder"]),
    ("plotters::", &["daemon/benches/plot.rs", "trainer/src/sweep/plot.rs"]),
    ("faer::", &["trainer/src/ridge.rs", "trainer/src/baselines/"]),
    ("prost::", &["trainer/src/export/onnx/"]),
    ("ureq::", &["trainer/src/fetch/archive.rs"]),
    ("tracing_appender::", &["daemon/src/host/log.rs"]),
    ("hyper::", &["daemon/src/control/http.rs", "daemon/src/control/http/"]),
    ("hyper_util::", &["daemon/src/control/http.rs"]),
    ("schemars::", &["trainer/src/config"]),
    ("zip::", &["replay/src/npz.rs"]),
];

/// Libraries that any file may name: what errors, bytes, numbers, time and command lines are made of.
const ANYWHERE: &str = "anyhow clap crossbeam-channel crossbeam-queue hdrhistogram indicatif libc ndarray proptest rand \
    rand_chacha rand_distr rayon rustix safetensors serde serde_json sha2 tar tempfile thiserror tokio toml tracing \
    tracing-subscriber";

/// Files of which each public function and type is computed by hand in a test of the same file: losses and metrics.
const COMPUTED_BY_HAND: [&str; 2] = ["trainer/src/objective/loss.rs", "trainer/src/evaluation/metrics.rs"];

const FILE_LINES_MAX: usize = 500;

/// Names that `src/` of a crate may show side by side: what a reader takes in at one look.
const SOURCE_ENTRIES_MAX: usize = 16;

const CRATES: [&str; 5] = ["protocol", "daemon", "trainer", "replay", "tests"];

/// The files of this ending in all crates, by their path from the top level, with their text.
fn files(ending: &str) -> Vec<(String, String)> {
    let root = workspace();
    let mut paths = Vec::new();
    CRATES.iter().for_each(|folder| walk(&root.join(folder), ending, &mut paths));
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

fn sources() -> Vec<(String, String)> {
    files("rs")
}

fn walk(folder: &Path, ending: &str, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, ending, paths);
        } else if path.extension().is_some_and(|found| found == ending) {
            paths.push(path);
        }
    }
}

/// The lines outside comments, and before the file's own tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    code.enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(at, line)| (at + 1, line))
}

/// `word` at the start of a path, not as the end of a longer name or within our own module path.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = &line[..at];
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn libraries_are_named_only_behind_their_fences() {
    let sources = sources();
    assert!(sources.len() > 30, "the walk found only {} files", sources.len());
    let mut found = Vec::new();
    for (file, text) in sources.iter().filter(|(file, _)| !file.starts_with("tests/tests/tidy/")) {
        for (library, allowed) in FENCES {
            if allowed.iter().any(|allowed| file.starts_with(allowed)) {
                continue;
            }
            let lines = code(text).filter(|(_, line)| names(line, library));
            found.extend(lines.map(|(at, line)| format!("{file}:{at}: {}", line.trim())));
        }
    }
    assert!(found.is_empty(), "libraries named outside their file:\n{}", found.join("\n"));
}

#[test]
fn every_library_has_a_fence_or_may_be_named_anywhere() {
    let text = std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let (_, rest) = text.split_once("[workspace.dependencies]\n").unwrap();
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let libraries = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let fenced = |name: &str| FENCES.iter().any(|(library, _)| library.trim_end_matches("::") == name);
    let ours = |name: &str| name.starts_with("ndt-");
    let unknown: Vec<&str> = libraries
        .map(|(name, _)| name)
        .filter(|name| {
            !ours(name)
                && !ANYWHERE.split_whitespace().any(|free| free == *name)
                && !fenced(&name.replace('-', "_"))
        })
        .collect();
    assert!(
        unknown.is_empty(),
        "libraries without a fence in FENCES or a place in ANYWHERE: {}",
        unknown.join(", ")
    );
}

#[test]
fn every_loss_and_metric_is_computed_by_hand_in_a_test_of_its_file() {
    let (sources, mut found) = (sources(), Vec::new());
    for (file, text) in sources.iter().filter(|(file, _)| COMPUTED_BY_HAND.contains(&file.as_str())) {
        let (code, tests) = text.split_once("#[cfg(test)]").unwrap_or((text, ""));
        let items = code.lines().filter(|line| line.starts_with("pub"));
        let items = items.filter_map(|line| line.split_once("fn ").or_else(|| line.split_once("struct ")));
        let item =
            items.filter_map(|(_, rest)| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next());
        let used = |name: &str| ["(", "::", " {"].iter().any(|after| names(tests, &format!("{name}{after}")));
        found.extend(item.map(|name| (file, name, used(name))));
    }
    assert!(found.len() > 5, "the files hold only {} losses and metrics", found.len());
    let untested: Vec<String> = found
        .iter()
        .filter(|(.., tested)| !tested)
        .map(|(file, name, _)| format!("{file}: {name}"))
        .collect();
    assert!(untested.is_empty(), "without a hand-computed case:\n{}", untested.join("\n"));
}

#[test]
fn files_are_short_enough_to_have_one_job() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(file, lines)| format!("{file}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "files of more than {FILE_LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn libraries_do_not_unwrap_or_print() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        let is_program =
            file.ends_with("main.rs") || file.contains("/src/cli") || file.contains("/examples/");
        if !file.contains("/src/") || file.starts_with("tests/") || file.ends_with("/tests.rs") {
            continue;
        }
        for (at, line) in code(&text) {
            let unwraps = line.contains(".unwrap()") || line.contains(".expect(");
            let prints = !is_program && (names(line, "println!") || names(line, "dbg!"));
            if unwraps || prints {
                found.push(format!("{file}:{at}: {}", line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "in code that must not:\n{}", found.join("\n"));
}

#[test]
fn a_crate_shows_few_names_at_once() {
    let mut full = Vec::new();
    for name in CRATES {
        let entries = std::fs::read_dir(workspace().join(name).join("src")).unwrap().flatten();
        let mut entries: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned())
            .collect();
        // `decoder.rs` and `decoder/` are one name.
        entries.sort();
        entries.dedup();
        if entries.len() > SOURCE_ENTRIES_MAX {
            full.push(format!("{name}/src: {} names: {}", entries.len(), entries.join(" ")));
        }
    }
    assert!(full.is_empty(), "folders with more than {SOURCE_ENTRIES_MAX} names:\n{}", full.join("\n"));
}
