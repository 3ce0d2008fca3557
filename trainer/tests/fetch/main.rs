//! `ndt-train fetch` against an archive on loopback whose connections break, whose digests are wrong and whose
//! responses do not follow the schema: only a verified file gets its name, and the good beginning of a file is kept.

mod disk;
mod server;

use ndt_replay::simulate::{Recipe, simulate};
use serde_json::{Value, json};
use server::{Asset, Server};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The real program with `server` as its archive, without the proxies of the environment.
fn program(server: &Server, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ndt-train"));
    without_proxies(&mut command);
    command.args(["fetch", "mc_maze_small", "--json", "--retry-wait-ms", "1", "--api"]);
    command.arg(format!("http://{}/api/", server.address)).arg("--out").arg(folder);
    command
}

fn without_proxies(command: &mut Command) {
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The report of a successful fetch; checks that the folder then holds exactly the server's NWB files.
fn fetched(server: &Server, folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = program(server, folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut names = names(folder);
    assert_eq!(names.len(), nwb(server).len(), "{names:?}");
    for (asset, name) in nwb(server).iter().zip(names.drain(..)) {
        assert_eq!(asset.name(), name);
        assert!(std::fs::read(folder.join(&name)).unwrap() == asset.content, "{name} differs");
    }
    report["files"].as_array().unwrap().clone()
}

/// The last line of a failed fetch; checks that no file with wrong contents has a final name.
fn refused(server: &Server, folder: &Path, arguments: &[&str]) -> String {
    let output = program(server, folder).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(output.stdout.is_empty());
    check_finals(server, folder);
    let errors = errors(&output);
    errors.lines().last().unwrap().strip_prefix("ndt-train: ").unwrap().to_owned()
}

fn check_finals(server: &Server, folder: &Path) {
    for name in names(folder).into_iter().filter(|name| !name.ends_with(".part")) {
        let asset = nwb(server).into_iter().find(|asset| asset.name() == name).unwrap();
        assert!(std::fs::read(folder.join(&name)).unwrap() == asset.content, "{name} is not whole");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The server's NWB files in the order of their names: first test, then train.
fn nwb(server: &Server) -> Vec<Asset> {
    let mut assets = server.state().assets.clone();
    assets.retain(|asset| asset.path.ends_with(".nwb"));
    assets.sort_by(|one, other| one.name().cmp(other.name()));
    assets
}

/// The part of the training file with its bytes; checks that they are the file's first ones.
fn part(server: &Server, folder: &Path) -> Option<(PathBuf, usize)> {
    let train = nwb(server).pop().unwrap();
    let name =
        names(folder).into_iter().find(|name| name.starts_with(train.name()) && name.ends_with(".part"))?;
    let content = std::fs::read(folder.join(&name)).unwrap();
    assert!(train.content.starts_with(&content), "{name} is no beginning of the file");
    Some((folder.join(name), content.len()))
}

/// Waits until the part of the training file has at least this many bytes.
fn await_part(server: &Server, folder: &Path, bytes: usize, writer: &mut Child) {
    while part(server, folder).is_none_or(|(_, found)| found < bytes) {
        assert!(writer.try_wait().unwrap().is_none(), "the fetch ended early");
        std::thread::yield_now();
    }
}

/// A server with the training file alone.
fn one_file() -> (Server, TempDir) {
    let server = Server::start();
    server.state().assets.truncate(1);
    (server, tempfile::tempdir().unwrap())
}

#[test]
fn files_are_listed_fetched_and_then_left() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let folder = folder.path().join("a/b");
    let list = program(&server, &folder).arg("--list").output().unwrap();
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!((&list["dandiset"], &list["version"]), (&json!("000140"), &json!("0.220113.0408")));
    assert_eq!(list["files"][1]["bytes"], 300_000);
    assert!(server.ranges().is_empty() && !folder.exists(), "a list fetches nothing");

    let files = fetched(&server, &folder, &[]);
    assert_eq!(files[1]["bytes"], 300_000);
    assert_eq!(files[1]["sha256"], list["files"][1]["sha256"]);
    assert_eq!((&files[1]["already_there"], &files[1]["resumed_from_bytes"]), (&json!(false), &json!(0)));
    assert_eq!(server.ranges(), ["all", "all"]);

    let files = fetched(&server, &folder, &[]);
    assert!(files.iter().all(|file| file["already_there"] == true), "{files:?}");
    assert_eq!(server.ranges().len(), 2, "files that are there are not asked for");
}

#[test]
fn a_log_has_lines_and_the_text_report_says_what_was_done() {
    let (server, folder) = one_file();
    let output = Command::new(env!("CARGO_BIN_EXE_ndt-train"))
        .args(["fetch", "mc_maze_small", "--api", &format!("http://{}/api", server.address), "--out"])
        .arg(folder.path())
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap();
    let (text, log) = (String::from_utf8(output.stdout.clone()).unwrap(), errors(&output));
    assert!(text.contains("292.97 KiB, sha256 agrees, "), "{text}");
    assert!((2..=11).contains(&log.lines().count()), "{log}");
    assert!(log.contains("292.97 KiB of 292.97 KiB"), "{log}");
}

#[test]
fn broken_connections_are_continued() {
    let (server, folder) = one_file();
    // Five breaks with progress between them and two tries: each byte that is received resets the count.
    server.state().cuts = [10_000, 1, 100_000, 7, 40_000].into();
    let files = fetched(&server, folder.path(), &["--tries", "2"]);
    assert_eq!(files[0]["resumed_from_bytes"], 0);
    let expected = ["all", "bytes=10000-", "bytes=10001-", "bytes=110001-", "bytes=110008-", "bytes=150008-"];
    assert_eq!(server.ranges(), expected);
}

#[test]
fn tries_without_progress_end_and_the_part_survives() {
    let (server, folder) = one_file();
    server.state().cuts = [10_000, 0, 0].into();
    let error = refused(&server, folder.path(), &["--tries", "3"]);
    assert!(error.contains(": expected a response, found none in 3 tries; the last one: "), "{error}");
    assert_eq!(part(&server, folder.path()).unwrap().1, 10_000);
    server.state().header_cuts = 2;
    let files = fetched(&server, folder.path(), &["--tries", "3"]);
    assert_eq!(files[0]["resumed_from_bytes"], 10_000);
}

#[test]
fn servers_that_know_no_ranges_begin_anew() {
    let (server, folder) = one_file();
    server.state().ignores_ranges = true;
    server.state().cuts = [10_000, 60_000].into();
    fetched(&server, folder.path(), &[]);
    assert_eq!(server.ranges(), ["all", "bytes=10000-", "bytes=60000-"]);

    // A connection that breaks at the same place each time makes no progress.
    let (server, folder) = one_file();
    server.state().ignores_ranges = true;
    server.state().cuts = vec![10_000; 50].into();
    let error = refused(&server, folder.path(), &["--tries", "3"]);
    assert!(error.contains("found none in 3 tries"), "{error}");
    assert_eq!(part(&server, folder.path()).unwrap().1, 10_000);
}

#[test]
fn a_killed_fetch_is_continued() {
    let (server, folder) = one_file();
    server.state().stall = Some(123_456);
    let mut child = program(&server, folder.path()).stderr(Stdio::null()).spawn().unwrap();
    await_part(&server, folder.path(), 123_456, &mut child);
    check_finals(&server, folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    server.open_gate();
    let files = fetched(&server, folder.path(), &[]);
    assert_eq!(files[0]["resumed_from_bytes"], 123_456);
    assert_eq!(server.ranges(), ["all", "bytes=123456-"]);
}

#[test]
fn two_fetches_do_not_write_one_file() {
    let (server, folder) = one_file();
    server.state().stall = Some(50_000);
    let mut first =
        program(&server, folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    await_part(&server, folder.path(), 50_000, &mut first);
    let error = refused(&server, folder.path(), &[]);
    assert!(
        error.ends_with(".part: expected no other fetch of this file, found one that is running"),
        "{error}"
    );
    server.open_gate();
    assert!(first.wait().unwrap().success());
    assert_eq!(fetched(&server, folder.path(), &[])[0]["already_there"], true);
}

#[test]
fn a_silent_server_is_asked_again() {
    let (server, folder) = one_file();
    server.state().stall = Some(20_000);
    fetched(&server, folder.path(), &["--stall-s", "1"]);
    assert_eq!(server.ranges(), ["all", "bytes=20000-"]);
    server.open_gate();
}

#[test]
fn wrong_hashes_leave_nothing() {
    let (server, folder) = one_file();
    let right =
        std::mem::replace(&mut server.state().assets[0].digest, json!({ "dandi:sha2-256": "AB".repeat(32) }));
    let error = refused(&server, folder.path(), &[]);
    let expected = format!(
        ": expected sha256 {}, found {}; ",
        "ab".repeat(32),
        right["dandi:sha2-256"].as_str().unwrap()
    );
    assert!(error.contains(&expected), "{error}");
    assert!(names(folder.path()).is_empty());

    // A part that was damaged on the disk is noticed, removed, and downloaded in whole the next time.
    server.state().assets[0].digest = right;
    server.state().cuts = [1_000, 0].into();
    refused(&server, folder.path(), &["--tries", "2"]);
    std::fs::write(part(&server, folder.path()).unwrap().0, [1; 1_000]).unwrap();
    assert!(refused(&server, folder.path(), &[]).contains("expected sha256 "));
    assert!(names(folder.path()).is_empty());
    assert_eq!(fetched(&server, folder.path(), &[])[0]["resumed_from_bytes"], 0);
}

#[test]
fn parts_of_another_version_are_not_continued() {
    let (server, folder) = one_file();
    server.state().cuts = [1_000, 0].into();
    refused(&server, folder.path(), &["--tries", "2"]);
    let (old, _) = part(&server, folder.path()).unwrap();
    let path = server.state().assets[0].path.clone();
    server.state().assets[0] = Asset::new(&path, 200_000, 9);
    let output = program(&server, folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    check_finals(&server, folder.path());
    assert_eq!(server.ranges().last().unwrap(), "all");
    assert_eq!(std::fs::read(old).unwrap().len(), 1_000);

    // A part that is longer than the file cannot be a beginning of it.
    let (server, folder) = one_file();
    server.state().cuts = [1_000, 0].into();
    refused(&server, folder.path(), &["--tries", "2"]);
    std::fs::write(part(&server, folder.path()).unwrap().0, vec![1; 300_001]).unwrap();
    assert_eq!(fetched(&server, folder.path(), &[])[0]["resumed_from_bytes"], 0);
}

#[test]
fn another_file_of_the_same_name_is_left_unless_it_is_a_recording_and_may_be_replaced() {
    let (server, folder) = one_file();
    let path = folder.path().join(nwb(&server)[0].name());
    let kept = std::cell::RefCell::new(b"precious".to_vec());
    std::fs::write(&path, "precious").unwrap();
    let failing = |arguments: &[&str]| {
        let output = program(&server, folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(std::fs::read(&path).unwrap(), *kept.borrow());
        errors(&output)
    };
    let error = failing(&[]);
    assert!(error.contains("it is left as it is (--overwrite replaces a recording)"), "{error}");
    assert!(server.ranges().is_empty());
    // With --overwrite only a recording is replaced, and it stays until the right one has been downloaded.
    let error = failing(&["--overwrite"]);
    assert!(error.contains("found a file that is no NWB recording; it was not touched"), "{error}");
    assert!(server.ranges().is_empty());
    let session = simulate(&Recipe { trials: 2, units: 2, heldout: 0, seed: 1 });
    ndt_replay::nwb::write(&session, &path).unwrap();
    kept.replace(std::fs::read(&path).unwrap());
    failing(&[]);
    server.state().cuts = [100, 0].into();
    failing(&["--overwrite", "--tries", "2"]);
    fetched(&server, folder.path(), &["--overwrite"]);
}

#[test]
fn lengths_and_ranges_are_held_against_the_metadata() {
    for announces_length in [true, false] {
        let (server, folder) = one_file();
        server.state().extra = 1;
        server.state().announces_length = announces_length;
        let error = refused(&server, folder.path(), &[]);
        assert!(error.contains("expected 300000 bytes, found "), "{error}");
        assert!(names(folder.path()).is_empty());
    }
    let (server, folder) = one_file();
    server.state().assets[0].said_bytes = 300_001;
    let error = refused(&server, folder.path(), &[]);
    assert!(error.contains("expected 300001 bytes, found 300000"), "{error}");

    let (server, folder) = one_file();
    server.state().cuts = [5_000].into();
    server.state().early_ranges = 10;
    let error = refused(&server, folder.path(), &[]);
    assert!(error.ends_with("expected the range that was asked for, found one from byte 4990"), "{error}");
    assert_eq!(part(&server, folder.path()).unwrap().1, 5_000);
}

#[test]
fn errors_that_pass_are_waited_out_and_others_are_not() {
    let (server, folder) = one_file();
    server.state().statuses = [500, 503, 429, 408].into();
    fetched(&server, folder.path(), &[]);

    for status in [404, 403, 410] {
        let (server, folder) = one_file();
        server.state().statuses = [status].into();
        let error = refused(&server, folder.path(), &[]);
        let expected = format!("dandiset 000140/0.220113.0408: expected status 200 or 206, found {status}");
        assert_eq!(error, expected);
        assert_eq!(server.state().requests.len(), 1);
    }
    let (server, folder) = one_file();
    server.state().redirects_in_circles = true;
    let error = refused(&server, folder.path(), &[]);
    assert!(error.ends_with("expected at most 5 redirects, found more"), "{error}");
}

#[test]
fn what_the_archive_says_is_not_believed() {
    let refusal = |change: &dyn Fn(&mut server::State)| {
        let (server, folder) = one_file();
        change(&mut server.state());
        let output = program(&server, folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
        assert!(names(folder.path()).is_empty() && server.ranges().is_empty());
        errors(&output)
    };
    for path in ["../x.nwb", "/etc/x.nwb", "a/../../x.nwb", "a\\x.nwb", "a/.x.nwb", "a/\u{1b}[2J.nwb"] {
        let error = refusal(&|state| state.assets[0].path = path.to_owned());
        assert!(error.contains("expected asset paths of plain names"), "{error}");
        assert!(!error.contains('\u{1b}'), "terminal codes of a server are not printed");
    }
    let error = refusal(&|state| state.assets[0].id = "../../x".to_owned());
    assert!(error.contains("expected asset ids of hexadecimal digits"), "{error}");
    let error = refusal(&|state| state.assets[0].digest = json!({ "dandi:dandi-etag": "00-1" }));
    assert!(error.contains("expected a sha256 digest from the archive, found none"), "{error}");
    let error = refusal(&|state| state.assets[0].digest = json!({ "dandi:sha2-256": "../../../../x" }));
    assert!(error.contains("expected a sha256 of 64 hexadecimal digits"), "{error}");
    let error = refusal(&|state| state.assets[0].path = "readme.txt".to_owned());
    assert!(error.contains("expected NWB files, found none"), "{error}");
    let error = refusal(&|state| state.assets.push(state.assets[0].clone()));
    assert!(error.contains("expected NWB files of different names"), "{error}");
    let error = refusal(&|state| state.listing = Some(b"<html>".to_vec()));
    assert!(error.contains("expected a page of its assets, found "), "{error}");
    let error = refusal(&|state| state.listing = Some(vec![b' '; 9 << 20]));
    assert!(error.contains("found more than 8388608 bytes"), "{error}");
    let error = refusal(&|state| {
        state.assets.push(Asset::new("notes.txt", 5, 5));
        state.endless_pages = true;
    });
    assert!(error.contains("expected a listing with an end"), "{error}");
}

#[test]
fn the_proxy_of_the_environment_is_asked() {
    let (server, folder) = one_file();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ndt-train"));
    without_proxies(&mut command);
    let output = command
        .args(["fetch", "mc_maze_small", "--tries", "1", "--api", "https://archive.invalid/api", "--out"])
        .arg(folder.path())
        .env("HTTPS_PROXY", format!("http://{}", server.address))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let requests = server.state().requests.clone();
    assert_eq!(requests, ["CONNECT archive.invalid:443"], "{}", errors(&output));
}

#[test]
fn arguments_that_cannot_work_are_sentences() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ndt-train"));
        without_proxies(&mut command);
        let output = command.arg("fetch").args(arguments).output().unwrap();
        assert!(!output.status.success());
        errors(&output)
    };
    let error = run(&["mc_maze_tiny", "--list"]);
    assert!(error.contains("expected one of mc_maze_small, "), "{error}");
    let error = run(&["mc_maze", "--list", "--api", "ftp://archive.invalid"]);
    assert!(error.contains("expected the API as https://HOST/PATH"), "{error}");
    // A port that no program listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let api = format!("http://{free}/api");
    let error = run(&["mc_maze", "--list", "--tries", "2", "--retry-wait-ms", "1", "--api", &api]);
    assert!(error.contains("found none in 2 tries; the last one: "), "{error}");
}
