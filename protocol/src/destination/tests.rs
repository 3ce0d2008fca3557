//! The rule on folders of our own, for a file and a folder of made-up kinds.

use super::*;
use std::os::unix::fs::symlink;

/// A file that begins with `ours`.
const FILE: Kind = Kind {
    name: "a list",
    form: Form::File,
    other: |path| (first_bytes(path, 4) != b"ours").then(|| "a file that is no list".to_owned()),
};

/// A folder of `head` and `body`.
const FOLDER: Kind =
    Kind { name: "a box", form: Form::Folder, other: |path| other_folder(path, &["body"], "head") };

const WORKSPACE: Kind = Kind { form: Form::Workspace, ..FOLDER };

struct Disk(tempfile::TempDir);

impl Disk {
    /// Folders end in a slash.
    fn with(entries: &[(&str, &str)]) -> Disk {
        let disk = Disk(tempfile::tempdir().unwrap());
        for (name, text) in entries {
            let path = disk.path(name);
            match name.ends_with('/') {
                true => std::fs::create_dir_all(path).unwrap(),
                false => std::fs::write(path, text).unwrap(),
            }
        }
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The message about a path; empty if it may be written to.
    fn said(&self, name: &str, kind: Kind, overwrite: bool, inputs: &[&str]) -> String {
        let inputs: Vec<PathBuf> = inputs.iter().map(|name| self.path(name)).collect();
        let checked = Destination::check(&self.path(name), kind, overwrite, &inputs);
        let text = checked.err().map_or_else(String::new, |error| error.to_string());
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn what_exists_is_replaced_only_if_it_is_of_the_kind_and_the_user_allows_it() {
    let disk = Disk::with(&[
        ("ours", "ours and more"),
        ("foreign", "a letter"),
        ("empty/", ""),
        ("box/", ""),
        ("box/head", ""),
        ("box/body", ""),
        ("mixed/", ""),
        ("mixed/head", ""),
        ("mixed/notes.txt", ""),
        ("headless/", ""),
        ("headless/body", ""),
    ]);
    symlink("nowhere", disk.path("dangling")).unwrap();
    let foreign = |found: &str| format!("or a list, found {found}");
    let other_box = |found: &str| format!("or a box, found {found}");
    for (name, kind, without, with) in [
        ("new", FILE, String::new(), String::new()),
        ("new", FOLDER, String::new(), String::new()),
        ("no/such/folder", FOLDER, String::new(), String::new()),
        ("empty", FOLDER, String::new(), String::new()),
        ("ours", FILE, "found a list; --overwrite replaces it".to_owned(), String::new()),
        ("box", FOLDER, "found a box; --overwrite replaces it".to_owned(), String::new()),
        ("box", WORKSPACE, String::new(), String::new()),
        ("foreign", FILE, foreign("a file that is no list"), foreign("a file that is no list")),
        ("empty", FILE, foreign("a folder"), foreign("a folder")),
        ("dangling", FILE, foreign("a link that leads nowhere"), foreign("a link that leads nowhere")),
        ("/dev/null", FILE, foreign("no regular file"), foreign("no regular file")),
        ("foreign", FOLDER, other_box("a file"), other_box("a file")),
        ("foreign", WORKSPACE, other_box("a file"), other_box("a file")),
        (
            "mixed",
            FOLDER,
            other_box("a folder that holds notes.txt"),
            other_box("a folder that holds notes.txt"),
        ),
        ("mixed/..", FOLDER, other_box("a folder that holds"), other_box("a folder that holds")),
        ("headless", FOLDER, other_box("a folder without head"), other_box("a folder without head")),
    ] {
        for (overwrite, expected) in [(false, without), (true, with)] {
            let said = disk.said(name, kind, overwrite, &[]);
            let fits = if expected.is_empty() { said.is_empty() } else { said.contains(&expected) };
            assert!(fits, "{name}, {overwrite}: expected {expected:?}, found {said:?}");
        }
    }
}

#[test]
fn an_output_that_is_contains_or_lies_within_an_input_is_refused_by_any_name() {
    let disk = Disk::with(&[
        ("data/", ""),
        ("data/day.list", "ours"),
        ("data/box/", ""),
        ("data/box/head", ""),
        ("elsewhere/", ""),
    ]);
    symlink("data", disk.path("link")).unwrap();
    symlink("data/day.list", disk.path("day")).unwrap();
    std::fs::hard_link(disk.path("data/day.list"), disk.path("elsewhere/other.list")).unwrap();
    let refused = |name: &str, relation: &str, input: &str| {
        format!("expected an output apart from the inputs, found that {name} {relation} the input {input}")
    };
    for (name, kind, relation, input) in [
        ("data/day.list", FILE, "is", "data/day.list"),
        ("data/../data/./day.list", FILE, "is", "data/day.list"),
        ("new/../data/day.list", FILE, "is", "data/day.list"),
        ("link/day.list", FILE, "is", "data/day.list"),
        ("day", FILE, "is", "data/day.list"),
        ("data/day.list", FILE, "is", "day"),
        ("elsewhere/other.list", FILE, "is", "data/day.list"),
        ("data", FOLDER, "contains", "data/day.list"),
        ("link", FOLDER, "contains", "data/day.list"),
        ("data", WORKSPACE, "contains", "data/box"),
        ("data/box/new", FOLDER, "lies within", "data/box"),
        ("link/box/new.list", FILE, "lies within", "data/box"),
        ("data/day.list/new", FOLDER, "lies within", "data/day.list"),
        ("missing", FILE, "is", "missing"),
    ] {
        for overwrite in [false, true] {
            let said = disk.said(name, kind, overwrite, &["elsewhere/none", input]);
            assert_eq!(said, refused(name, relation, input));
        }
    }
    assert_eq!(disk.said("data/new", FOLDER, false, &["data/day.list", "data/box"]), "");
}

#[test]
fn a_folder_that_cannot_take_the_output_is_said_before_any_work() {
    let disk = Disk::with(&[("file", "text"), ("data/", "")]);
    assert!(disk.said("no/new", FILE, false, &[]).ends_with("found no folder no"));
    assert!(
        disk.said("file/new", FILE, false, &[])
            .contains("expected a folder that can be written to for file/new")
    );
    assert!(disk.said("file/new", FOLDER, false, &[]).ends_with("found a file, file"));
    assert!(disk.said("/", FOLDER, true, &[]).ends_with("found no folder above it"));
    let here = std::env::current_dir().unwrap();
    for path in [Path::new("."), here.as_path(), here.parent().unwrap()] {
        let error = Destination::check(path, FOLDER, true, []).unwrap_err().to_string();
        assert!(error.contains("the folder in which this program runs, or one above it"), "{error}");
    }
}

#[test]
fn a_destination_is_looked_at_again_before_it_is_written() {
    let disk = Disk::with(&[]);
    let path = disk.path("list");
    let destination = Destination::check(&path, FILE, true, []).unwrap();
    destination.write(b"ours, first").unwrap();
    destination.write(b"ours, second").unwrap();
    std::fs::write(&path, "a letter").unwrap();
    assert!(matches!(destination.write(b"ours"), Err(WriteError::Destination(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"a letter");
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let disk = Disk::with(&[("data/", ""), ("data/list", "ours, old")]);
    symlink("data/list", disk.path("link")).unwrap();
    Destination::check(&disk.path("link"), FILE, true, []).unwrap().write(b"ours, new").unwrap();
    assert!(disk.path("link").is_symlink());
    assert_eq!(std::fs::read(disk.path("data/list")).unwrap(), b"ours, new");
    assert_eq!(std::fs::read_dir(disk.path("data")).unwrap().count(), 1, "nothing is left beside");
}
