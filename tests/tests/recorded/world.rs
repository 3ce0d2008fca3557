//! A folder with all that a recorded session takes, a daemon in it, and a rig.

use ndt_protocol::Estimate;
use ndt_protocol::session_log::{Frame, Kind, Reader};
use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::transport::zeromq::{Receiver, Sender};
use ndt_tests::{SMALL, Shape, free_address, linear, manifest, program, random_weights};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub const SOON: Duration = Duration::from_secs(60);

/// A folder with a recording, a model of its channels, a fallback decoder, and a configuration.
pub struct World {
    pub folder: tempfile::TempDir,
    pub session: Session,
}

impl World {
    pub fn new(config: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let session = simulate(&Recipe { trials: 16, units: 24, heldout: 6, seed: 2 });
        let channels: Vec<i64> =
            session.units.iter().filter(|unit| !unit.heldout).map(|unit| unit.id).collect();
        let units: Vec<i64> = session.units.iter().map(|unit| unit.id).collect();
        let shape = Shape { channels: channels.len(), units: units.len(), dims: 2, architecture: SMALL };
        let mut of_model = manifest(shape);
        (of_model.channel_ids, of_model.unit_ids) = (channels.clone(), units);
        let weights = random_weights(&of_model, 7);
        let model = ndt_trainer::export::from_weights(of_model, weights, &vec![0.8; channels.len()]).unwrap();
        model.write(&folder.path().join("model")).unwrap();
        let mut fallback = linear(channels.len(), 2, 6, 3);
        fallback.manifest.channel_ids = channels;
        fallback.write(&folder.path().join("linear")).unwrap();
        std::fs::write(folder.path().join("ndtd.toml"), config).unwrap();
        World { folder, session }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Ids of the channels that the model sees.
    pub fn channel_ids(&self) -> Vec<i64> {
        self.session.units.iter().filter(|unit| !unit.heldout).map(|unit| unit.id).collect()
    }

    /// The one log in the folder `sessions`.
    pub fn log(&self) -> PathBuf {
        Reader::open(&self.path("sessions")).unwrap().folder().to_owned()
    }

    pub fn daemon(&self) -> Daemon {
        let (input, output) = (free_address(), free_address());
        let mut command = Command::new(program("ndtd"));
        command.args(["run", "--config", &self.text("ndtd.toml"), "--bundle", &self.text("model")]);
        command.args(["--fallback-bundle", &self.text("linear"), "--record", &self.text("sessions")]);
        command.args(["--input", &format!("bind:{input}"), "--output", &output]).stdin(Stdio::null());
        let process = command.spawn().unwrap();
        Daemon { process, input, output }
    }

    pub fn replay(&self, arguments: &[&str]) -> Output {
        Command::new(program("ndt-replay")).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }
}

/// A daemon that records.
pub struct Daemon {
    pub process: Child,
    pub input: String,
    pub output: String,
}

impl Daemon {
    /// A listener that hears the daemon.
    pub fn listener(&self) -> Receiver {
        let mut receiver = Receiver::open(&self.output.parse().unwrap()).unwrap();
        receiver.receive(SOON).expect("a description within a minute");
        receiver
    }

    pub fn rig(&self) -> Sender {
        let mut sender = Sender::open(&format!("connect:{}", self.input).parse().unwrap()).unwrap();
        sender.wait_for_subscriber(SOON).unwrap();
        sender
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to a process that this test has started and not waited for.
        assert_eq!(unsafe { libc::kill(self.process.id() as libc::pid_t, signal) }, 0);
    }

    pub fn end(mut self) {
        self.signal(libc::SIGTERM);
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    /// Asks it to end, because a shell that is killed leaves its daemon behind.
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.signal(libc::SIGTERM);
            drop(self.process.wait());
        }
    }
}

/// The next estimate that a listener hears within `patience`.
pub fn heard(receiver: &mut Receiver, patience: Duration) -> Option<Estimate> {
    let until = Instant::now() + patience;
    loop {
        let message = receiver.receive(until.checked_duration_since(Instant::now())?)?;
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        if frames[0] == wire::TOPIC_ESTIMATE {
            return Some(wire::read_estimate(&frames).unwrap());
        }
    }
}

pub fn logged(path: &Path) -> (Vec<Estimate>, Reader) {
    let mut reader = Reader::open(path).unwrap();
    let mut estimates = Vec::new();
    while let Some(Frame::Estimate(estimate)) = reader.next_of(&[Kind::Estimate]).unwrap() {
        estimates.push(*estimate);
    }
    (estimates, reader)
}

pub fn bits(estimate: &Estimate) -> (Vec<u8>, Vec<u32>) {
    let values = estimate.rates().iter().chain(estimate.outputs());
    (wire::estimate_header(estimate).to_vec(), values.map(|value| value.to_bits()).collect())
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A rig that sends bins until it is told to stop.
pub fn send_until(daemon: &Daemon, channel_ids: &[i64], is_over: &AtomicBool) {
    let mut rig = daemon.rig();
    let bin_width_us = 20_000;
    rig.describe(1, &Description::Bins { bin_width_us, channel_ids: channel_ids.to_vec() });
    let start = Instant::now();
    let mut seq = 0u32;
    while !is_over.load(Relaxed) {
        std::thread::sleep(
            (start + Duration::from_millis(20) * seq).saturating_duration_since(Instant::now()),
        );
        let stamp = BinStamp {
            seq: seq.into(),
            stream: 1,
            source_ns: 20_000_000 * i64::from(seq),
            bin_width_us,
            ..BinStamp::default()
        };
        // A daemon that was killed takes nothing.
        rig.offer(&stamp, &vec![1.0; channel_ids.len()]);
        seq += 1;
    }
}
