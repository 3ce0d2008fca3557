//! The commands of the three programs: which paths they read and write, and how they are run.

use crate::world::World;
use ndt_protocol::files::write_folder;
use ndt_replay::listen::Tally;
use ndt_replay::listen::picture::Picture;
use ndt_replay::nwb;
use ndt_tests::{program, workspace};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

pub const PROGRAMS: [&str; 3] = ["ndtd", "ndt-train", "ndt-replay"];

/// Options (and arguments without a name) whose value is a path that is read.
pub const READ: [&str; 20] = [
    "bundle",
    "config",
    "control-socket",
    "counts",
    "data",
    "expect",
    "fallback-bundle",
    "file",
    "log",
    "lsl-library",
    "onnxruntime-library",
    "permitted-keys",
    "secret-key",
    "server-key",
    "socket",
    "splits-of",
    "submission",
    "targets",
    "truth",
    "zeromq-library",
];

/// Options (and arguments without a name) whose value is a path that is written.
pub const WRITTEN: [&str; 4] = ["out", "picture", "fault-plan", "name"];

/// Options whose value is a folder to which every run adds a folder of another name: nothing in it is ever replaced.
pub const ADDED_TO: [&str; 1] = ["record"];

/// Commands that write nothing, or only add to a folder.
pub const SILENT: [&str; 18] = [
    "ndtd run",
    "ndtd check",
    "ndtd doctor",
    "ndtd bench",
    "ndtd status",
    "ndtd pause",
    "ndtd resume",
    "ndtd reset",
    "ndtd mask",
    "ndtd unmask",
    "ndtd swap",
    "ndtd rollback",
    "ndtd stop",
    "ndt-train evaluate",
    "ndt-train nlb score",
    "ndt-replay inspect",
    "ndt-replay report",
    "ndt-replay verify",
];

/// Commands that take more than a process to run, or never replace anything: the rule is tested in this file, by this test.
pub const ELSEWHERE: [(&str, &str, &str); 3] = [
    (
        "ndtd run",
        "tests/tests/recorded/main.rs",
        "a_folder_that_cannot_be_written_to_is_one_sentence_at_the_start_and_nothing_is_replaced",
    ),
    (
        "ndt-train fetch",
        "trainer/tests/fetch/main.rs",
        "another_file_of_the_same_name_is_left_unless_it_is_a_recording_and_may_be_replaced",
    ),
    ("ndtd keygen", "protocol/src/zeromq/curve.rs", "keys_are_their_owners_alone_and_never_overwritten"),
];

/// How an output lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    File,
    Folder,
    /// A folder that every run adds to.
    Workspace,
}

/// What a program did.
pub struct Run {
    pub succeeded: bool,
    pub printed: String,
    pub said: String,
}

/// One output of a command.
pub struct Case {
    pub program: &'static str,
    pub command: &'static [&'static str],
    /// Name of the option, without dashes; empty if a file says where the output lies.
    pub option: &'static str,
    /// A path for the output.
    pub out: &'static str,
    /// What the command appends to the option's value to get the path of what it replaces.
    pub appended: &'static str,
    pub form: Form,
    /// The files and folders that are read.
    pub inputs: &'static [&'static str],
    /// All arguments. `OUT` stands for the output.
    pub arguments: &'static str,
    /// Makes an output of an earlier run, if the command itself cannot do it alone.
    pub earlier: Option<fn(&World, &str)>,
    /// Part of the message with which the command ends even if it may write: it has nobody to talk to.
    pub ends_with: Option<&'static str>,
}

const USUAL: Case = Case {
    program: "ndt-train",
    command: &[],
    option: "out",
    out: "out",
    appended: "",
    form: Form::File,
    inputs: &[],
    arguments: "",
    earlier: None,
    ends_with: None,
};

pub const CASES: &[Case] = &[
    Case {
        command: &["fit"],
        form: Form::Folder,
        inputs: &["in/day1.nwb", "in/small.toml"],
        arguments: "--data in/day1.nwb --config in/small.toml --out OUT",
        ..USUAL
    },
    Case {
        command: &["fit"],
        out: "out.ndt",
        inputs: &["in/day1.nwb", "in/small.toml"],
        arguments: "--data in/day1.nwb --config in/small.toml --out OUT",
        ..USUAL
    },
    Case {
        command: &["fit"],
        appended: ".checkpoint",
        form: Form::Folder,
        inputs: &["in/day1.nwb", "in/small.toml"],
        arguments: "--data in/day1.nwb --config in/small.toml --out OUT",
        earlier: Some(|world, target| {
            write_folder(&world.path(target), &[("progress.toml", b"version = 1\n".to_vec())]).unwrap();
        }),
        ..USUAL
    },
    Case {
        command: &["fit"],
        appended: "/day2",
        form: Form::Folder,
        inputs: &["in/day1.nwb", "in/day2.nwb", "in/small.toml"],
        arguments: "--data in/day1.nwb in/day2.nwb --config in/small.toml --sessions separate --out OUT",
        ..USUAL
    },
    Case {
        command: &["finetune"],
        form: Form::Folder,
        inputs: &["in/model", "in/day2.nwb", "in/small.toml"],
        arguments: "--bundle in/model --data in/day2.nwb --config in/small.toml --epochs 1 --trials 8 --out OUT",
        ..USUAL
    },
    Case {
        command: &["baselines"],
        appended: "/wiener-heldin",
        form: Form::Folder,
        inputs: &["in/day1.nwb"],
        arguments: "--data in/day1.nwb --only wiener --units heldin --out OUT",
        ..USUAL
    },
    Case {
        command: &["sweep"],
        option: "",
        form: Form::Workspace,
        inputs: &["in/day1.nwb", "sweep.toml"],
        arguments: "--config sweep.toml --jobs 1",
        ..USUAL
    },
    Case {
        command: &["decode"],
        out: "out.nwb",
        inputs: &["in/day1.nwb", "in/model"],
        arguments: "--bundle in/model --data in/day1.nwb --split val --out OUT",
        ..USUAL
    },
    Case {
        command: &["decode"],
        out: "out.npz",
        inputs: &["in/day1.nwb", "in/model"],
        arguments: "--bundle in/model --data in/day1.nwb --split val --out OUT",
        ..USUAL
    },
    Case {
        command: &["tensors"],
        out: "out.npz",
        inputs: &["in/day1.nwb"],
        arguments: "--data in/day1.nwb --out OUT",
        ..USUAL
    },
    Case {
        command: &["tensors"],
        out: "out.safetensors",
        inputs: &["in/day1.nwb"],
        arguments: "--data in/day1.nwb --out OUT",
        ..USUAL
    },
    Case {
        command: &["nlb", "tensors"],
        inputs: &["in/day1.nwb"],
        arguments: "--data in/day1.nwb --variant reach --align go_cue_time --from-ms -100 --to-ms 500 --lag-ms 80 \
                    --conditions target_direction --bin-ms 20 --out OUT",
        ..USUAL
    },
    Case {
        command: &["nlb", "submit"],
        inputs: &["in/day1.nwb", "in/model"],
        arguments: "--bundle in/model --data in/day1.nwb --variant reach --align go_cue_time --from-ms -100 --to-ms 500 \
                    --lag-ms 80 --conditions target_direction --out OUT",
        ..USUAL
    },
    Case {
        program: "ndt-replay",
        command: &["simulate"],
        arguments: "--trials 3 --units 6 --out OUT",
        ..USUAL
    },
    Case {
        program: "ndt-replay",
        command: &["play"],
        option: "fault-plan",
        inputs: &["in/day1.nwb"],
        arguments: "in/day1.nwb --to ipc://sock --bin-ms 20 --faults drop=1% --wait-s 0.05 --fault-plan OUT",
        ends_with: Some("subscriber"),
        ..USUAL
    },
    Case {
        program: "ndt-replay",
        command: &["listen"],
        option: "picture",
        inputs: &["in/day1.nwb"],
        arguments: "ipc://sock --truth in/day1.nwb --wait-s 0.05 --picture OUT",
        earlier: Some(|world, target| {
            let session = nwb::read(&world.path("in/day1.nwb")).unwrap();
            world.write(target, &Picture::new(&session).svg(&Tally::new(None).summary()));
        }),
        ends_with: Some("estimate"),
        ..USUAL
    },
    Case {
        program: "ndt-replay",
        command: &["export"],
        inputs: &["in/log"],
        arguments: "in/log --out OUT",
        ..USUAL
    },
    Case {
        program: "ndtd",
        command: &["decode"],
        inputs: &["in/model", "in/counts.safetensors"],
        arguments: "--bundle in/model --counts in/counts.safetensors --out OUT",
        ..USUAL
    },
];

impl Case {
    /// The program and its command.
    pub fn command(&self) -> String {
        format!("{} {}", self.program, self.command.join(" "))
    }

    /// The command and its output, for messages.
    pub fn title(&self) -> String {
        format!("{} --{} OUT{}", self.command(), self.option, self.appended)
    }

    pub fn is_of(&self, command: &str, option: &str) -> bool {
        self.command() == command && self.option == option
    }

    /// Path of what is replaced.
    pub fn target(&self, out: &str) -> String {
        format!("{out}{}", self.appended)
    }

    /// Whether the command has these further options.
    pub fn takes(&self, more: &[&str]) -> bool {
        more.is_empty() || !self.option.is_empty()
    }
}

/// The names of all options and arguments of the programs whose value is a path, from the sources: the fields of their
/// command lines that hold a `PathBuf`.
pub fn path_fields() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for folder in ["daemon", "trainer", "replay"] {
        let mut files = Vec::new();
        collect(&workspace().join(folder).join("src/cli"), &mut files);
        for text in files {
            let named =
                text.lines().filter_map(|line| line.trim().trim_start_matches("pub ").split_once(": "));
            let paths =
                named.filter(|(_, kind)| ["PathBuf,", "Option<PathBuf>,", "Vec<PathBuf>,"].contains(kind));
            fields.extend(paths.map(|(name, _)| name.replace('_', "-")));
        }
    }
    fields
}

/// The texts of all source files in a folder.
fn collect(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => collect(&path, texts),
            path => texts.push(std::fs::read_to_string(path).unwrap()),
        }
    }
}

/// Every command of the programs with the words of its help that are options, as the programs tell them.
pub fn commands() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut open: Vec<String> = PROGRAMS.map(str::to_owned).to_vec();
    while let Some(command) = open.pop() {
        let text = help(&command);
        let below = text.split("Commands:\n").nth(1).map(|rest| rest.split("\n\n").next().unwrap());
        let Some(below) = below else {
            let options = text.lines().map(str::trim).filter(|line| line.starts_with('-'));
            let words = options.flat_map(|line| line.split([' ', ',']).filter(|word| word.starts_with("--")));
            found.push((command, words.map(str::to_owned).collect()));
            continue;
        };
        let names = below.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        open.extend(
            names.filter(|name| !["", "help"].contains(name)).map(|name| format!("{command} {name}")),
        );
    }
    found
}

/// The options of a command whose value its help calls a file, a folder or a path.
pub fn named_as_paths(command: &str) -> Vec<String> {
    let is_path = |line: &&str| ["<FILE>", "<DIR>", "<PATH>"].iter().any(|name| line.contains(name));
    let text = help(command);
    let options = text.lines().map(str::trim).filter(|line| line.starts_with("--")).filter(is_path);
    options.filter_map(|line| Some(line.trim_start_matches('-').split(' ').next()?.to_owned())).collect()
}

fn help(command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let shown = Command::new(program(words[0])).args(&words[1..]).arg("--help").output().unwrap();
    String::from_utf8(shown.stdout).unwrap()
}
