//! A folder with inputs of every kind, in which a command is run, and a memory of every byte in it.

use crate::table::{Case, Run};
use ndt_protocol::bundle::tensors::{self, Tensors};
use ndt_protocol::session_log::{Header, file_name, frame, preface};
use ndt_protocol::wire::Description;
use ndt_protocol::{Bin, CountRange, Estimate};
use ndt_replay::nwb;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{SMALL_FIT, program, random_counts};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use tempfile::TempDir;

/// The configuration of a fit of one epoch.
fn one_epoch() -> String {
    format!("{SMALL_FIT}epochs = 1\n")
}

/// The inputs, made once: two recordings, a configuration, a bundle and counts.
static INPUTS: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, seed) in [("day1.nwb", 5), ("day2.nwb", 6)] {
        nwb::write(&simulate(&Recipe { trials: 24, units: 12, heldout: 4, seed }), &path(name)).unwrap();
    }
    std::fs::write(path("small.toml"), one_epoch()).unwrap();
    let mut fit = Command::new(program("ndt-train"));
    fit.arg("fit").arg("--data").arg(path("day1.nwb")).arg("--config").arg(path("small.toml"));
    let fitted = fit.arg("--out").arg(path("model")).output().unwrap();
    assert!(fitted.status.success(), "{}", String::from_utf8_lossy(&fitted.stderr));
    let counts = Tensors::from([("counts".to_owned(), (vec![2, 10, 8], random_counts(20, 8, 1)))]);
    std::fs::write(path("counts.safetensors"), tensors::to_bytes(&counts)).unwrap();
    std::fs::create_dir(path("log")).unwrap();
    std::fs::write(path("log").join(file_name(0)), log()).unwrap();
    folder
});

/// The file of a session log with a few bins of two channels.
fn log() -> Vec<u8> {
    let description = Description::Estimates {
        bundle: "0".repeat(64),
        engine: "native f32 portable".to_owned(),
        bin_width_us: 20_000,
        unit_ids: vec![1, 2],
        velocity_dims: 0,
        velocity_offset_ns: 0,
        outputs: Vec::new(),
    };
    let header = Header {
        session: "a session".to_owned(),
        file: 0,
        program: "a test".to_owned(),
        commit: None,
        started_unix_ns: 0,
        started_monotonic_ns: 0,
        bundle_path: "model".into(),
        channel_ids: vec![1, 2],
        description,
        readout: None,
        instruction_set: "portable".to_owned(),
        precision: "f32".to_owned(),
        cpu: "none".to_owned(),
        cpu_features: Vec::new(),
        configuration: String::new(),
    };
    let mut bytes = preface().to_vec();
    frame::put_header(&header, &mut bytes);
    for seq in 0..5 {
        let mut bin = Bin::empty();
        bin.fill([1.0, 2.0].into_iter(), CountRange::new(20, 20.0));
        (bin.seq, bin.source_ns, bin.arrival_ns) = (seq, 20_000_000 * seq as i64, 20_000_000 * (seq + 1));
        frame::put_bin(&bin, 20_000, 0, bin.arrival_ns, &mut bytes);
        let mut estimate = Estimate::zero(2, 0);
        (estimate.seq, estimate.source_ns) = (seq, bin.source_ns);
        frame::put_estimate(&estimate, &mut bytes);
    }
    bytes
}

/// A folder in which a command is run. Its folder `in` holds the inputs.
pub struct World(TempDir);

impl World {
    pub fn new() -> World {
        let world = World(tempfile::tempdir().unwrap());
        copy(INPUTS.path(), &world.path("in"));
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn is_folder(&self, name: &str) -> bool {
        self.path(name).is_dir()
    }

    pub fn make_folder(&self, name: &str) {
        std::fs::create_dir_all(self.path(name)).unwrap();
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn link(&self, target: &str, name: &str) {
        self.in_place(name);
        std::os::unix::fs::symlink(self.path(target), self.path(name)).unwrap();
    }

    pub fn hard_link(&self, target: &str, name: &str) {
        self.in_place(name);
        if !self.path(target).exists() {
            self.write(target, "");
        }
        std::fs::hard_link(self.path(target), self.path(name)).unwrap();
    }

    /// Makes the folders above a name.
    fn in_place(&self, name: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
    }

    /// The contents of every file, and of every link the target, by path. Folders have empty contents.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        walk(self.0.path(), self.0.path(), &mut files);
        // The file that tells a sweep where to write is an argument.
        files.retain(|name, _| !name.ends_with("sweep.toml"));
        files
    }

    /// Runs a case with its output at `out` and further arguments.
    pub fn run(&self, case: &Case, out: &str, more: &[&str]) -> Run {
        let arguments = case.arguments.split_whitespace().map(|word| if word == "OUT" { out } else { word });
        // A case that has the option in its arguments has it once.
        let given: Vec<&str> = arguments.filter(|word| more.is_empty() || !more.contains(word)).collect();
        self.start(case, self.0.path(), out, &[&given[..], more].concat())
    }

    /// Runs a case whose output is the folder that it runs in, which is empty.
    pub fn run_here(&self, case: &Case) -> Run {
        self.make_folder("here");
        let arguments: Vec<String> = case
            .arguments
            .split_whitespace()
            .map(|word| match word {
                "OUT" => ".".to_owned(),
                word if word.starts_with("in/") => format!("../{word}"),
                word => word.to_owned(),
            })
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let run = self.start(case, &self.path("here"), ".", &arguments);
        std::fs::remove_dir(self.path("here")).unwrap();
        run
    }

    fn start(&self, case: &Case, folder: &Path, out: &str, arguments: &[&str]) -> Run {
        let head = format!("data = [\"in/day1.nwb\"]\nout = \"{out}\"\n");
        let base: String = one_epoch()
            .lines()
            .map(|line| match line.strip_prefix('[') {
                Some(rest) => format!("[base.{rest}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        self.write("sweep.toml", &format!("{head}{base}[space]\nmodel.width = [16]\n"));
        let mut command = Command::new(program(case.program));
        let output = command.args(case.command).args(arguments).current_dir(folder).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run { succeeded: output.status.success(), printed: text(&output.stdout), said: text(&output.stderr) }
    }
}

fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if path.is_symlink() {
            files.insert(name, std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
        } else if path.is_dir() {
            files.insert(name, Vec::new());
            walk(root, &path, files);
        } else if path.is_file() {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &to) } else { _ = std::fs::copy(&path, &to).unwrap() }
    }
}
