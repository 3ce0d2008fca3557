//! The daemon's log, in every state that standard error can be in: none of them costs an estimate or ends the daemon.
//!
//! `NDT_LOG_SECONDS=60 cargo test --workspace --test log` plays longer than the few seconds of a usual run.

use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_replay::transport::zeromq::{Receiver, Sender};
use ndt_tests::{SMALL, Shape, free_address, manifest, program, random_weights};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const BIN: Duration = Duration::from_millis(5);
const CHANNELS: usize = 8;

/// Number of bins that a test plays, at 200 Hz.
fn bins() -> u64 {
    let seconds = std::env::var("NDT_LOG_SECONDS").map_or(4, |seconds| seconds.parse().unwrap());
    200 * seconds
}

/// A daemon, and the two ends that a test holds of it.
struct Bench {
    daemon: Child,
    input: String,
    output: String,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// Starts `ndtd run` by way of `command`, which is given its words, with this standard error.
    fn start(stderr: Stdio, command: impl FnOnce(Vec<String>) -> Command) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let mut manifest = manifest(Shape { channels: CHANNELS, units: 8, dims: 2, architecture: SMALL });
        manifest.bin_width_ms = BIN.as_secs_f64() * 1e3;
        let weights = random_weights(&manifest, 3);
        let bundle = ndt_trainer::export::from_weights(manifest, weights, &[0.3; CHANNELS]).unwrap();
        bundle.write(std::path::Path::new(&path("model"))).unwrap();
        // No answer but the computed one is due, however busy the machine is.
        std::fs::write(path("ndtd.toml"), "deadline-ms = 1000.0\nstale-after-bins = 200\n").unwrap();
        let (input, output) = (free_address(), free_address());
        let ndtd = program("ndtd").to_str().unwrap().to_owned();
        let bound = format!("bind:{input}");
        let words = [&ndtd, "run", "--config", &path("ndtd.toml"), "--bundle", &path("model")];
        let words = words.into_iter().chain(["--input", &bound, "--output", &output]).map(str::to_owned);
        let daemon = command(words.collect()).stderr(stderr).stdin(Stdio::null()).spawn().unwrap();
        Bench { daemon, input, output, _folder: folder }
    }

    /// Starts `ndtd run` with this standard error.
    fn with_stderr(stderr: impl Into<Stdio>) -> Bench {
        Bench::start(stderr.into(), |words| {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        })
    }

    /// Plays the bins, with a message in every second that is refused and logged. `when_half` is called in the middle. Expects
    /// one estimate for each bin, in order.
    fn play(&mut self, when_half: impl FnOnce()) {
        let mut receiver = Receiver::open(&self.output.parse().unwrap()).unwrap();
        let first = receiver.receive(SOON).expect("a description within a minute");
        assert_eq!(first.frames[0], wire::TOPIC_DESCRIPTION);
        let mut sender = Sender::open(&format!("connect:{}", self.input).parse().unwrap()).unwrap();
        sender.wait_for_subscriber(SOON).unwrap();
        let ids = (0..CHANNELS as i64).collect();
        sender.describe(0, &Description::Bins { bin_width_us: BIN.as_micros() as u32, channel_ids: ids });
        // Read while they come: what nobody reads for long is dropped, as it is for every slow subscriber.
        let heard = std::thread::spawn(move || in_order(&mut receiver));
        let (start, mut when_half) = (Instant::now(), Some(when_half));
        for seq in 0..bins() {
            std::thread::sleep((start + BIN * seq as u32).saturating_duration_since(Instant::now()));
            if seq == bins() / 2 {
                when_half.take().into_iter().for_each(|half| half());
            }
            let mut stamp = BinStamp { seq, stream: 1, ..BinStamp::default() };
            stamp.source_ns = BIN.as_nanos() as i64 * (seq as i64 + 1);
            stamp.bin_width_us = BIN.as_micros() as u32;
            sender.send(&stamp, &[1.0; CHANNELS]).unwrap();
            if seq % 200 == 50 {
                sender.send(&stamp, &[1.0; CHANNELS + 1]).unwrap();
            }
        }
        let heard = heard.join().unwrap();
        assert_eq!(heard, bins(), "estimates in order; the daemon: {:?}", self.daemon.try_wait());
    }

    /// Ends the daemon, and returns how it ended.
    fn end(mut self) -> ExitStatus {
        signal(self.daemon.id(), libc::SIGTERM);
        self.daemon.wait().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

/// Number of estimates that come, in order and from bin 0 on, until all have come or none comes any more.
fn in_order(receiver: &mut Receiver) -> u64 {
    let mut next = 0;
    while next < bins() {
        let Some(message) = receiver.receive(SOON) else { break };
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        if frames[0] == wire::TOPIC_ESTIMATE {
            assert_eq!(wire::read_estimate(&frames).unwrap().seq, next);
            next += 1;
        }
    }
    next
}

fn signal(process: u32, signal: i32) {
    // SAFETY: a signal to a process that this test has started and not waited for.
    assert_eq!(unsafe { libc::kill(process as libc::pid_t, signal) }, 0);
}

#[test]
fn a_full_disk_costs_nothing() {
    let mut bench = Bench::with_stderr(OpenOptions::new().write(true).open("/dev/full").unwrap());
    bench.play(|| ());
    assert!(bench.end().success());
}

#[test]
fn a_reader_of_the_log_that_ends_costs_nothing() {
    let mut bench = Bench::with_stderr(Stdio::piped());
    let mut log = BufReader::new(bench.daemon.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    bench.play(|| drop(log));
    assert!(bench.end().success());
}

#[test]
fn a_reader_of_the_log_that_sleeps_costs_nothing() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let mut bench = Bench::with_stderr(OwnedFd::from(writer));
    bench.play(|| ());
    // What waited is written as soon as somebody reads.
    let log = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    });
    assert!(bench.end().success());
    let log = log.join().unwrap();
    assert!(log.contains("expected 8 channels, found 9") && log.contains("stopped; bins"), "{log}");
}

/// Fills a pipe, so that whoever writes to it next waits.
fn fill(pipe: &impl AsRawFd) {
    let descriptor = pipe.as_raw_fd();
    // SAFETY: the descriptor is open for the whole call, and the buffer is as long as is said.
    unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        assert_eq!(libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK), 0);
        while libc::write(descriptor, [b'\n'; 512].as_ptr().cast(), 512) > 0 {}
        assert_eq!(libc::fcntl(descriptor, libc::F_SETFL, flags), 0);
    }
}

#[test]
fn a_terminal_that_is_closed_costs_nothing() {
    // `script` runs a command on a terminal of its own, which is closed when `script` is killed.
    let version = Command::new("script").arg("--version").stdout(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        return println!("skipped: this machine has no `script` of util-linux");
    }
    let mut bench = Bench::start(Stdio::null(), |words| {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let mut command = Command::new("script");
        // The shell says the daemon's number before it becomes the daemon.
        command.args(["-qec", &format!("echo $$; exec {}", quoted.join(" ")), "/dev/null"]);
        command.stdout(Stdio::piped());
        command
    });
    let mut said = BufReader::new(bench.daemon.stdout.take().unwrap());
    let mut number = String::new();
    said.read_line(&mut number).unwrap();
    let ndtd: u32 = number.trim().parse().unwrap();
    let script = bench.daemon.id();
    bench.play(|| signal(script, libc::SIGKILL));
    // It is not this test's child: its end is seen by the file that the system has for it.
    signal(ndtd, libc::SIGTERM);
    let process = format!("/proc/{ndtd}");
    while File::open(format!("{process}/stat")).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn signals_that_mean_nothing_to_it_do_not_end_the_daemon() {
    let mut bench = Bench::with_stderr(Stdio::piped());
    let mut log = BufReader::new(bench.daemon.stderr.take().unwrap());
    let ndtd = bench.daemon.id();
    bench.play(|| {
        [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2].iter().for_each(|number| signal(ndtd, *number))
    });
    assert!(bench.end().success());
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    for name in ["SIGHUP", "SIGUSR1", "SIGUSR2"] {
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn the_option_overrides_the_environment_and_the_environment_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("ndtd.toml");
    std::fs::write(&config, "bundle = \"/nowhere\"\nlog = \"info\"\n").unwrap();
    // What cannot be a filter is refused, so that the refusal tells which of the three was read.
    let refused = |environment: Option<&str>, option: Option<&str>| {
        let mut command = Command::new(program("ndtd"));
        command.args(["run", "--config"]).arg(&config);
        command.args(option.into_iter().flat_map(|level| ["--log", level]));
        command.env_remove("NDTD_LOG").envs(environment.map(|level| ("NDTD_LOG", level)));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert!(refused(None, None).contains("/nowhere"));
    assert!(refused(Some("=from-environment"), None).contains("=from-environment"));
    assert!(refused(Some("=from-environment"), Some("=from-option")).contains("=from-option"));
    assert!(refused(Some("=from-environment"), Some("warn")).contains("/nowhere"));
}
