//! Files that are not recordings, or that contradict themselves, are refused with one sentence, and nothing panics.

use ndt_replay::h5::{self, Group};
use ndt_replay::nwb;
use ndt_replay::session::{Session, Value};
use ndt_replay::simulate::{Recipe, simulate};
use std::path::{Path, PathBuf};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.nwb");
    (folder, path)
}

fn session() -> Session {
    simulate(&Recipe { trials: 3, units: 4, heldout: 1, seed: 2 })
}

/// Reads a file that must be refused; returns the sentence without the path.
fn sentence(path: &Path) -> String {
    let error = nwb::read(path).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("read ") && !text.contains('\n'), "{text}");
    error.problem.to_string()
}

#[test]
fn a_missing_file() {
    let (_folder, path) = folder();
    assert_eq!(sentence(&path), "expected a file, found: No such file or directory (os error 2)");
}

#[test]
fn a_folder() {
    let (folder, _) = folder();
    assert!(sentence(folder.path()).starts_with("expected a file, found: Is a directory"));
}

#[test]
fn a_file_of_another_format() {
    let (_folder, path) = folder();
    for bytes in [&b""[..], b"\x89HDF", b"spikes, but as text\n"] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(sentence(&path), "expected an HDF5 file, found a file of another format");
    }
}

#[test]
fn a_truncated_file_at_any_length() {
    let (_folder, path) = folder();
    nwb::write(&session(), &path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for part in 1..40 {
        std::fs::write(&path, &whole[..whole.len() * part / 40]).unwrap();
        let found = sentence(&path);
        assert!(
            found.starts_with("expected a whole HDF5 file, found a truncated or damaged one ("),
            "{found}"
        );
    }
}

#[test]
fn hdf5_that_is_not_nwb() {
    let (_folder, path) = folder();
    let root = h5::create(&path).unwrap();
    root.write("counts", &[1.0, 2.0], &[2]).unwrap();
    drop(root);
    assert_eq!(sentence(&path), "expected an NWB 2 file, found HDF5 without the attribute nwb_version");
}

#[test]
fn an_older_nwb() {
    let (_folder, path) = folder();
    let root = h5::create(&path).unwrap();
    root.set_text("nwb_version", "1.0.6").unwrap();
    drop(root);
    assert_eq!(sentence(&path), "expected an NWB 2 file, found NWB \"1.0.6\"");
}

/// Writes a minimal NWB file, to which `fill` adds something; returns the sentence with which it is refused.
fn refused(fill: impl Fn(&Group)) -> String {
    let (_folder, path) = folder();
    let root = h5::create(&path).unwrap();
    root.set_text("nwb_version", "2.7.0").unwrap();
    root.write_text("identifier", "bad").unwrap();
    fill(&root);
    drop(root);
    sentence(&path)
}

fn fill_units(root: &Group, ids: &[i64], times: &[f64], ends: &[u64]) -> Group {
    let units = root.create_group("units").unwrap();
    units.write("id", ids, &[ids.len()]).unwrap();
    units.write("spike_times", times, &[times.len()]).unwrap();
    units.write("spike_times_index", ends, &[ends.len()]).unwrap();
    units
}

#[test]
fn units_that_are_missing_or_empty() {
    assert_eq!(refused(|_| ()), "expected units, found no table /units");
    let found = refused(|root| drop(fill_units(root, &[], &[], &[])));
    assert_eq!(found, "expected at least one unit, found a table /units without rows");
    let found = refused(|root| drop(fill_units(root, &[1, 2], &[], &[0, 0])));
    assert_eq!(found, "expected at least one spike, found 2 units without any");
    let found = refused(|root| {
        root.create_group("units").unwrap().write("id", &[1i64], &[1]).unwrap();
    });
    assert_eq!(found, "expected a column spike_times in /units, found none");
}

#[test]
fn index_columns_that_contradict_their_data() {
    let check = |ids: &[i64], times: &[f64], ends: &[u64], expect: &str| {
        assert_eq!(refused(|root| drop(fill_units(root, ids, times, ends))), expect);
    };
    let index = "/units/spike_times_index";
    check(&[1, 2], &[0.1, 0.2], &[1, 9], &format!("expected ends of at most 2 in {index}, found 9 at row 1"));
    check(
        &[1, 2],
        &[0.1, 0.2],
        &[2, 1],
        &format!("expected ascending ends in {index}, found 1 after 2 at row 1"),
    );
    let short = format!("expected a last end of 2, the length of spike_times in {index}, found 1");
    check(&[1, 2], &[0.1, 0.2], &[0, 1], &short);
    check(&[1, 2], &[0.1, 0.2], &[2], &format!("expected 2 rows in {index}, found 1"));
    check(&[5, 5], &[0.1, 0.2], &[1, 2], "expected unique unit ids in /units/id, found 5 twice");
}

#[test]
fn columns_that_hold_something_else() {
    let found = refused(|root| drop(fill_units(root, &[1], &[0.1, f64::NAN], &[2])));
    assert_eq!(found, "expected finite spike times in /units/spike_times, found NaN at row 1");
    let found = refused(|root| {
        let units = root.create_group("units").unwrap();
        units.write("id", &[1i64], &[1]).unwrap();
        units.write_texts("spike_times", &["now"]).unwrap();
        units.write("spike_times_index", &[1u64], &[1]).unwrap();
    });
    assert_eq!(found, "expected numbers in /units/spike_times, found unicode (var len)");
    let found = refused(|root| {
        let units = fill_units(root, &[1], &[0.1], &[1]);
        units.write_bools("heldout", &[true, false]).unwrap();
    });
    assert_eq!(found, "expected 1 rows in /units/heldout, found 2");
    let found = refused(|root| {
        let units = fill_units(root, &[1], &[0.1], &[1]);
        units.write("obs_intervals", &[3.0, 1.0], &[1, 2]).unwrap();
        units.write("obs_intervals_index", &[1u64], &[1]).unwrap();
    });
    assert_eq!(
        found,
        "expected intervals that end after they start in /units/obs_intervals, found [3.0, 1.0]"
    );
}

#[test]
fn trials_without_times() {
    let found = refused(|root| {
        fill_units(root, &[1], &[0.1], &[1]);
        let trials = root.create_group("intervals/trials").unwrap();
        trials.write("id", &[0i64], &[1]).unwrap();
        trials.write("stop_time", &[1.0], &[1]).unwrap();
    });
    assert_eq!(found, "expected a column start_time in /intervals/trials, found none");
    let found = refused(|root| {
        fill_units(root, &[1], &[0.1], &[1]);
        let trials = root.create_group("intervals/trials").unwrap();
        trials.write("id", &[7i64], &[1]).unwrap();
        trials.write("start_time", &[2.0], &[1]).unwrap();
        trials.write("stop_time", &[1.0], &[1]).unwrap();
    });
    assert_eq!(
        found,
        "expected trials that stop after they start in /intervals/trials, found 2 to 1 in trial 7"
    );
}

#[test]
fn behaviour_without_times() {
    let found = refused(|root| {
        fill_units(root, &[1], &[0.1], &[1]);
        let hand = root.create_group("processing/behavior/hand").unwrap();
        hand.write("data", &[1.0, 2.0], &[2]).unwrap();
        hand.write("timestamps", &[1.0], &[1]).unwrap();
    });
    assert_eq!(found, "expected 2 timestamps, one for each sample, in /processing/behavior/hand, found 1");
    let found = refused(|root| {
        fill_units(root, &[1], &[0.1], &[1]);
        let hand = root.create_group("processing/behavior/hand").unwrap();
        hand.write("data", &[1.0, 2.0], &[2]).unwrap();
    });
    assert_eq!(found, "expected timestamps or a starting_time in /processing/behavior/hand, found neither");
}

#[test]
fn what_has_no_place_in_the_layout_is_refused_and_the_old_file_stays() {
    let (folder, path) = folder();
    nwb::write(&session(), &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut mixed = session();
    mixed.trials[1].columns.insert("rt".to_owned(), Value::Text("slow".to_owned()));
    let text = nwb::write(&mixed, &path).unwrap_err().to_string();
    assert_eq!(text, "expected values of one kind in the trial column rt, found float, text");
    let mut short = session();
    short.behavior[0].data.pop();
    let text = nwb::write(&short, &path).unwrap_err().to_string();
    assert!(
        text.starts_with("expected ") && text.contains(" values in the series hand_pos, found "),
        "{text}"
    );
    let mut twice = session();
    twice.behavior[1].name = "hand_pos".to_owned();
    let text = nwb::write(&twice, &path).unwrap_err().to_string();
    assert!(text.contains("/processing/behavior/hand_pos"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a part is left beside the file");
    let nowhere = folder.path().join("no/such/folder/session.nwb");
    let text = nwb::write(&session(), &nowhere).unwrap_err().to_string();
    assert!(text.ends_with("No such file or directory (os error 2)"), "{text}");
}
