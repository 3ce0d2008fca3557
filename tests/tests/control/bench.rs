//! A daemon with a control socket, its rig at 200 Hz and a subscriber.

use ndt_protocol::wire;
use ndt_protocol::{Bundle, Estimate, Quality};
use ndt_replay::transport::zeromq::Receiver;
use ndt_tests::lsl::{Running, Session, usual_ids};
use ndt_tests::rig::at_200_hz;
use ndt_tests::{SMALL, Shape, free_address, manifest, program, random_counts, random_weights};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

pub const SOON: Duration = Duration::from_secs(60);
const CHANNELS: usize = 12;

/// A model of 5 ms bins of the usual channels, with `dims` outputs.
pub fn model(seed: u64, dims: usize) -> Bundle {
    let shape = Shape { channels: CHANNELS, units: CHANNELS, dims, architecture: SMALL };
    let mut manifest = manifest(shape);
    manifest.channel_ids = usual_ids();
    manifest.unit_ids = usual_ids();
    manifest.bin_width_ms = 5.0;
    let weights = random_weights(&manifest, seed);
    let bundle = ndt_trainer::export::from_weights(manifest, weights, &[0.3; CHANNELS]).unwrap();
    // Its id is made when it is written.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.ndt");
    bundle.write(&path).unwrap();
    Bundle::read(&path).unwrap()
}

pub fn counts(seq: u64) -> Vec<f32> {
    random_counts(1, CHANNELS, seq)
}

/// A daemon with its rig and a subscriber.
pub struct Bench {
    pub session: Session,
    pub daemon: Running,
    receiver: Receiver,
    ends: Arc<AtomicBool>,
    rig: Option<JoinHandle<()>>,
    /// Every estimate so far.
    pub heard: Vec<Estimate>,
    /// Bundle of the last description.
    pub described: String,
}

impl Bench {
    pub fn new(present: &Bundle, settings: &str) -> Bench {
        let session = Session::new();
        let path = session.folder().join("model.ndt");
        present.write(&path).unwrap();
        let (input, output) = (free_address(), free_address());
        let config = session.folder().join("ndtd.toml");
        let socket = session.folder().join("control.sock");
        // No answer but the computed one is due, however busy the machine is.
        let text = format!(
            "bundle = {path:?}\ninput = \"{input}\"\noutput = \"{output}\"\ncontrol-socket = {socket:?}\n\
             deadline-ms = 1000.0\nstale-after-bins = 200\n{settings}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut daemon =
            Running::start(session.command(program("ndtd")).args(["run", "--config"]).arg(config));
        daemon.wait_for("orders are taken at");
        let mut receiver = Receiver::open(&output.parse().unwrap()).unwrap();
        let first = receiver.receive(SOON).expect("a description within a minute");
        assert_eq!(first.frames[0], wire::TOPIC_DESCRIPTION);
        let ends = Arc::new(AtomicBool::new(false));
        let rig = std::thread::spawn({
            let (address, ends) = (format!("bind:{input}"), ends.clone());
            move || at_200_hz(&address, &ends, counts)
        });
        Bench { session, daemon, receiver, ends, rig: Some(rig), heard: Vec::new(), described: String::new() }
    }

    /// Runs a command of `ndtd`, hears estimates meanwhile, and returns whether it succeeded and its answer.
    pub fn command(&mut self, words: &[&str]) -> (bool, Value) {
        let socket = self.socket();
        let mut command = self.session.command(program("ndtd"));
        command.args(words).arg("--json").arg("--socket").arg(socket);
        let runs = std::thread::spawn(move || command.output().unwrap());
        while !runs.is_finished() {
            self.hear(Duration::from_millis(20));
        }
        let output = runs.join().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
        (output.status.success(), answer.unwrap_or_else(|| panic!("{words:?}: {text:?} {said:?}")))
    }

    /// Runs a command that must succeed.
    pub fn order(&mut self, words: &[&str]) -> Value {
        let (succeeded, answer) = self.command(words);
        assert!(succeeded && answer["ok"] == true, "{words:?}: {answer}");
        answer
    }

    /// Runs a command that must be refused, and returns the sentence.
    pub fn refusal(&mut self, words: &[&str]) -> String {
        let (succeeded, answer) = self.command(words);
        assert!(!succeeded, "{words:?}: {answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    pub fn socket(&self) -> PathBuf {
        self.session.folder().join("control.sock")
    }

    /// Hears one estimate, if one comes within `wait`.
    pub fn hear(&mut self, wait: Duration) -> Option<&Estimate> {
        let message = self.receiver.receive(wait)?;
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        if frames[0] == wire::TOPIC_DESCRIPTION {
            let description: Value = serde_json::from_slice(frames[2]).unwrap();
            self.described = description["estimates"]["bundle"].as_str().unwrap().to_owned();
        }
        (frames[0] == wire::TOPIC_ESTIMATE).then(|| self.heard.push(wire::read_estimate(&frames).unwrap()));
        self.heard.last()
    }

    /// Hears estimates up to number `seq`.
    pub fn until(&mut self, seq: u64) {
        while self.heard.last().is_none_or(|last| last.seq < seq) {
            self.hear(SOON).expect("an estimate within a minute");
        }
    }

    /// Hears `bins` more estimates.
    pub fn more(&mut self, bins: u64) {
        self.until(self.heard.last().map_or(0, |last| last.seq) + bins);
    }

    /// Expects that nothing is missing in what was heard, and that nothing is late.
    pub fn expect_whole(&self) {
        for pair in self.heard.windows(2) {
            assert_eq!((pair[1].stream, pair[1].seq), (pair[0].stream, pair[0].seq + 1), "{pair:?}");
        }
        let late =
            self.heard.iter().find(|estimate| matches!(estimate.quality, Quality::Late | Quality::Gap));
        assert!(late.is_none(), "{late:?}");
    }

    /// Writes a bundle into the folder of the session, and returns its path.
    pub fn written(&self, name: &str, bundle: &Bundle) -> String {
        let path = self.session.folder().join(name);
        bundle.write(&path).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        self.rig.take().into_iter().for_each(|rig| drop(rig.join()));
    }
}
