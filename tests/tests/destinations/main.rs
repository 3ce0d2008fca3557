//! Every command that writes, against everything that may lie where it writes: nothing of the user's is lost.
//!
//! [`table`] is the list of the commands and their outputs, and it is compared with what the programs themselves offer. Each
//! command is run in a [`world`] of its own, a folder with inputs, and every byte in it is compared before and after.

mod disk;
mod table;
mod world;

use table::{ADDED_TO, CASES, Case, ELSEWHERE, Form, READ, Run, SILENT, WRITTEN};
use world::World;

/// What a message says about a path that may be written to if the user says so.
const EXISTS: &str = "; --overwrite replaces";
/// What a message says about a path that holds something of another kind.
const OCCUPIED: &str = "; it was not touched";
/// What a message says about a path that is not apart from the inputs.
const NOT_APART: &str = "expected an output apart from the inputs";

/// How to mend the tables after a command, an option or a field has been added.
const MEND: &str = "a command or an option is missing in tests/tests/destinations/table.rs, or is there and nowhere else: list \
                    an option whose value is a path in READ or WRITTEN; give a command that writes a row in CASES, `#[command(\
                    flatten)] overwrite: Overwrite`, and a call of `overwrite.check` before it begins to work; list any other \
                    command in SILENT";

/// Runs the case with its output at `out`, which must be refused with a sentence that holds `expected`, before any work and with
/// nothing changed.
fn refused(case: &Case, world: &World, out: &str, more: &[&str], expected: &str) {
    let before = world.files();
    let Run { succeeded, printed, said } = world.run(case, out, more);
    let what = format!("{} with {out} {more:?}", case.title());
    assert!(!succeeded && said.contains(expected), "{what}: expected {expected:?}, found {said:?}");
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.contains(expected) && last.starts_with(case.program),
        "{what}: expected one sentence, found {said}"
    );
    assert!(
        printed.is_empty() && said.lines().count() <= 2,
        "{what}: expected no work before, found {printed}{said}"
    );
    assert!(world.files() == before, "{what}: files have changed");
}

/// Runs the case, which must get past the rule. Everything but the output is still there, and nothing lies beside it.
fn written(case: &Case, world: &World, out: &str, more: &[&str]) {
    let before = world.files();
    let Run { succeeded, said, .. } = world.run(case, out, more);
    let what = format!("{} with {out} {more:?}", case.title());
    match case.ends_with {
        None => assert!(succeeded, "{what}: {said}"),
        Some(end) => assert!(!succeeded && said.contains(end), "{what}: expected {end:?}, found {said}"),
    }
    let (after, target) = (world.files(), case.target(out));
    let is_output = |path: &str| path == target || path.starts_with(&format!("{target}/"));
    // A fit of separate sessions writes the bundles beside the output too: the same ones, but for when they were fitted.
    let is_record = |path: &str| path.ends_with("/fit.json");
    for (path, bytes) in before.iter().filter(|(path, _)| !is_output(path) && !is_record(path)) {
        assert!(after.get(path) == Some(bytes), "{what}: {path} has changed");
    }
    let temporary = |path: &&String| path.ends_with(".part") || path.ends_with(".old");
    assert_eq!(after.keys().find(temporary), None, "{what}: something is left beside");
}

#[test]
fn every_command_and_every_path_is_in_the_table() {
    let mut wrong = Vec::new();
    let fields = table::path_fields();
    let listed = || READ.iter().chain(&WRITTEN).chain(&ADDED_TO);
    wrong.extend(fields.iter().filter(|field| !listed().any(|name| name == field)).cloned());
    wrong.extend(listed().filter(|name| !fields.contains(**name)).map(|name| (*name).to_owned()));
    let commands = table::commands();
    assert!(commands.len() > 12, "expected the commands of three programs, found {commands:?}");
    for (command, options) in &commands {
        let writes = WRITTEN.iter().filter(|name| options.contains(&format!("--{name}"))).collect::<Vec<_>>();
        let has_case = |option: &str| CASES.iter().any(|case| case.is_of(command, option));
        let is_elsewhere = ELSEWHERE.iter().any(|(name, ..)| name == command);
        for option in &writes {
            if !has_case(option) && !is_elsewhere {
                wrong.push(format!("{command} --{option}"));
            }
        }
        let has_overwrite = options.iter().any(|option| option == "--overwrite");
        if writes.is_empty() == has_overwrite {
            wrong.push(format!("{command} (--overwrite)"));
        }
        let is_listed =
            !writes.is_empty() || has_case("") || is_elsewhere || SILENT.contains(&command.as_str());
        if !is_listed {
            wrong.push(command.clone());
        }
        // A value that the help calls a file is the value of a path option.
        let (odd, _): (Vec<_>, Vec<_>) = table::named_as_paths(command)
            .into_iter()
            .partition(|name| !listed().any(|listed| listed == name));
        wrong.extend(odd.into_iter().map(|name| format!("{command} --{name}")));
    }
    let exists = |name: &str| commands.iter().any(|(command, _)| command == name);
    wrong.extend(SILENT.iter().filter(|name| !exists(name)).map(|name| (*name).to_owned()));
    wrong.extend(CASES.iter().map(Case::command).filter(|name| !exists(name)));
    assert!(wrong.is_empty(), "{MEND}: {wrong:?}");
}

#[test]
fn rules_that_are_tested_elsewhere_are_tested_there() {
    for (command, file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(ndt_tests::workspace().join(file)).unwrap();
        assert!(text.contains(&format!("fn {test}(")), "{command}: expected the test {test} in {file}");
    }
}

#[test]
fn something_of_another_kind_is_never_replaced() {
    for case in CASES {
        let world = World::new();
        let out = case.out;
        world.make_folder(&case.target(out));
        world.write(&format!("{}/notes.txt", case.target(out)), "years of notes");
        for more in [&[][..], &["--overwrite"]] {
            if case.takes(more) {
                refused(case, &world, out, more, OCCUPIED);
            }
        }
        let world = World::new();
        world.write(&case.target(out), "years of notes");
        for more in [&[][..], &["--overwrite"]] {
            if case.takes(more) {
                refused(case, &world, out, more, OCCUPIED);
            }
        }
    }
}

#[test]
fn an_output_that_is_not_apart_from_an_input_is_refused_by_any_name() {
    for case in CASES {
        let world = World::new();
        let mut outs = Vec::new();
        for input in case.inputs {
            let (link, hard) = (format!("link to {input}"), format!("hard link to {input}"));
            world.link(input, &link);
            outs.extend([(*input).to_owned(), link, format!("./in/../{input}")]);
            if world.is_folder(input) {
                outs.push(format!("{input}/new"));
            } else {
                world.hard_link(input, &hard);
                outs.push(hard);
            }
        }
        // The folder with all inputs.
        outs.push("in".to_owned());
        for out in outs.iter().filter(|_| case.appended.is_empty() && !case.inputs.is_empty()) {
            for more in [&[][..], &["--overwrite"]] {
                if case.takes(more) {
                    refused(case, &world, out, more, NOT_APART);
                }
            }
        }
    }
}

#[test]
fn an_output_of_an_earlier_run_is_replaced_only_when_the_user_says_so() {
    for case in CASES {
        let world = World::new();
        let out = case.out;
        match case.earlier {
            Some(make) => make(&world, &case.target(out)),
            None => written(case, &world, out, &[]),
        }
        match case.form {
            Form::Workspace => written(case, &world, out, &[]),
            Form::File | Form::Folder => {
                refused(case, &world, out, &[], EXISTS);
                written(case, &world, out, &["--overwrite"]);
            }
        }
        if case.form == Form::Folder {
            // The same beside a file of the user's own.
            world.write(&format!("{}/notes.txt", case.target(out)), "years of notes");
            refused(case, &world, out, &["--overwrite"], "a folder that holds notes.txt; it was not touched");
        }
    }
}

#[test]
fn a_place_that_cannot_be_written_is_said_before_any_work() {
    for case in CASES.iter().filter(|case| case.form == Form::File) {
        let out = format!("missing/{}", case.out);
        refused(case, &World::new(), &out, &[], "expected a folder that can be written to for ");
    }
    for case in CASES.iter().filter(|case| case.form == Form::Folder && case.appended.is_empty()) {
        let world = World::new();
        world.write("file", "text");
        refused(case, &world, "file/out", &[], "expected a folder that can be written to for ");
        let before = world.files();
        let Run { succeeded, said, .. } = world.run_here(case);
        assert!(
            !succeeded && said.contains("the folder in which this program runs"),
            "{}: {said}",
            case.title()
        );
        assert!(world.files() == before);
    }
}
