//! Runs the daemon as a systemd service: readiness, status, the watchdog, reloading, what happened to the stream, an orderly end.
//!
//! All of this is the control plane: it reads counters and never touches the real-time threads.

use crate::control::commands::Commands;
use crate::control::socket::ControlSocket;
use crate::host::log::Log;
use crate::host::reload::Reload;
use crate::host::report::{Message, Reporter, summary};
use crate::host::watchdog::{self, Unhealthy};
use crate::pipeline::Pipeline;
use ndt_protocol::clock::monotonic_ns;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// Interval between two summaries in the log and in `systemctl status`.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// Interval between two reads of the counters; no event is reported more often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Interval between two judgements of the threads' signs of life, where systemd does not ask for more.
const JUDGE_EVERY: Duration = Duration::from_millis(500);

/// Judgements within systemd's `WatchdogSec=`: one that is late does not end the daemon.
const JUDGEMENTS: u32 = 4;

/// Tells systemd that the daemon is ready and, as long as it is healthy, alive; logs what happens to the stream, and stops the pipeline
/// on SIGTERM, SIGINT or an order that comes over `socket`. SIGHUP reads the configuration again; the signals for users are logged and change nothing.
///
/// # Errors
/// The error of the system when the runtime or the signal handlers cannot be set up.
pub fn supervise(
    pipeline: Pipeline,
    log: &Log,
    reload: &mut Reload,
    commands: Commands,
    socket: Option<ControlSocket>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let commands = Arc::new(commands);
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut user1 = signal(SignalKind::user_defined1())?;
        let mut user2 = signal(SignalKind::user_defined2())?;
        notify(&[NotifyState::Ready, NotifyState::Status("waiting for bins")]);
        let mut summarise = tokio::time::interval(SUMMARY_EVERY);
        // What was last logged; an idle daemon does not repeat it.
        let mut logged = String::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let judge_every = sd_notify::watchdog_enabled().map_or(JUDGE_EVERY, |period| period / JUDGEMENTS);
        let mut judge = tokio::time::interval(judge_every.max(Duration::from_millis(1)));
        let (mut reporter, mut lost) = (Reporter::new(pipeline.input()), 0);
        let mut health = Ok(());
        let mut serve = std::pin::pin!(serve(socket.as_ref(), &commands));
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = commands.stopped() => break,
                () = &mut serve => {}
                _ = hangup.recv() => read_again(log, reload),
                _ = user1.recv() => info!("SIGUSR1 has no meaning here; decoding goes on"),
                _ = user2.recv() => info!("SIGUSR2 has no meaning here; decoding goes on"),
                _ = judge.tick() => {
                    let found = watchdog::judge(&pipeline.heartbeats(), monotonic_ns());
                    tell_of_health(std::mem::replace(&mut health, found), found);
                }
                _ = look.tick() => {
                    let turned_away = reporter.turned_away(&pipeline.turned_away());
                    let messages = reporter.messages(&pipeline.stats());
                    write(messages.into_iter().chain(turned_away));
                    let before = std::mem::replace(&mut lost, log.lost());
                    if lost > before {
                        warn!("lines of the log that could not be written: {lost}");
                    }
                }
                _ = summarise.tick() => {
                    let line = summary(&pipeline.stats());
                    notify(&[NotifyState::Status(&line)]);
                    if line != logged {
                        info!("{line}");
                        logged = line;
                    }
                }
            }
        }
        Ok::<(), std::io::Error>(())
    })?;
    notify(&[NotifyState::Stopping]);
    let stats = pipeline.stats();
    if !pipeline.stop() {
        warn!("expected the threads to end within 2 s, found one that hangs");
    }
    info!("stopped; {}", summary(&stats));
    Ok(())
}

/// Serves the control socket, if there is one. Never returns.
async fn serve(socket: Option<&ControlSocket>, commands: &Arc<Commands>) {
    if let Some(socket) = socket {
        let served = socket.serve(commands.clone()).await;
        served.unwrap_or_else(|error| error!("expected to serve the control socket, found {error}"));
    }
    std::future::pending().await
}

/// Reads the configuration again, between the two notifications that systemd expects of it.
fn read_again(log: &Log, reload: &mut Reload) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
    write(reload.again(|filter| log.set_filter(filter)));
    notify(&[NotifyState::Ready]);
}

/// Tells systemd's watchdog that the daemon is alive, unless it is `found` not to be well. The log says when that begins and ends.
fn tell_of_health(before: Result<(), Unhealthy>, found: Result<(), Unhealthy>) {
    match (before, found) {
        (_, Ok(())) => notify(&[NotifyState::Watchdog]),
        (Ok(()), Err(unhealthy)) => {
            let end =
                if sd_notify::watchdog_enabled().is_some() { "; systemd will end this process" } else { "" };
            error!("{unhealthy}{end}");
            notify(&[NotifyState::Status(&unhealthy.to_string())]);
        }
        (Err(_), Err(_)) => (),
    }
    if before.is_err() && found.is_ok() {
        warn!("the daemon is well again");
    }
}

fn write(messages: impl IntoIterator<Item = Message>) {
    for message in messages {
        match message {
            Message::Info(sentence) => info!("{sentence}"),
            Message::Warning(sentence) => warn!("{sentence}"),
        }
    }
}

/// Notifies systemd. Without systemd nothing is sent, and that is no error.
fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("expected systemd to take a notification, found {error}");
    }
}
