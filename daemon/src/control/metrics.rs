//! `/metrics`: what the monitor has seen, as Prometheus reads it. `daemon/docs/monitoring.md` explains every family.

mod exposition;

use super::channels::Fault;
use super::health;
use super::recent::{LONG, SHORT};
use super::state::State;
use crate::host::watchdog;
use exposition::{Exposition, Kind::Counter, Kind::Gauge, Kind::Histogram};
use ndt_protocol::Quality;
use ndt_protocol::bundle::hex;

/// Factor by which a channel's rate must differ from training to count as drifted, and standard errors that it must differ by.
const DRIFTED: f64 = 2.0;
const DRIFTED_ERRORS: f64 = 4.0;

/// What belongs to the process and not to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Process {
    /// Resident memory, bytes; `None` where the system does not tell.
    pub resident_bytes: Option<u64>,
    /// Pages that are looked at.
    pub viewers: usize,
    /// Connections to the monitor that were closed, because there were too many.
    pub turned_away: u64,
    /// Frames that were not sent to a browser that did not keep up.
    pub frames_lost: u64,
}

/// Resident memory of this process, bytes.
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kb: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kb * 1024)
}

/// Writes all metrics as they are at `now_ns`.
pub fn text(state: &State, process: Process, now_ns: u64) -> String {
    let mut to = Exposition::default();
    judgements(&mut to, state, now_ns);
    stream(&mut to, state, now_ns);
    estimates(&mut to, state);
    latencies(&mut to, state);
    model(&mut to, state);
    channels(&mut to, state);
    of_process(&mut to, state, process);
    to.into_text()
}

fn judgements(to: &mut Exposition, state: &State, now_ns: u64) {
    let (facts, stats) = (&state.facts, state.observer.stats());
    let is_healthy = watchdog::judge(&state.observer.heartbeats(), now_ns).is_ok();
    let is_ready = health::ready(&state.observed, &stats, facts.width_ns, now_ns).is_ok();
    to.family(Gauge, "ndtd_healthy", "1 while no thread hangs and bins that come are computed, as /healthz.");
    to.sample(&[], f64::from(u8::from(is_healthy)));
    to.family(Gauge, "ndtd_ready", "1 while bins come and good estimates leave, as /readyz.");
    to.sample(&[], f64::from(u8::from(is_ready)));
    to.family(Gauge, "ndtd_bundle_info", "The bundle that computes, and its engine. Always 1.");
    let newest = state.observed.newest.as_ref().map(|newest| hex(&newest.bundle));
    let bundle = newest.filter(|id| id.bytes().any(|digit| digit != b'0'));
    let bundle = bundle.as_deref().unwrap_or(&facts.bundle);
    let version = env!("CARGO_PKG_VERSION");
    to.sample(&[("bundle", bundle), ("engine", &facts.engine), ("version", version)], 1.0);
    to.family(Gauge, "ndtd_bin_width_seconds", "Width of a bin.");
    to.sample(&[], facts.width_s());
}

fn stream(to: &mut Exposition, state: &State, now_ns: u64) {
    let stats = state.observer.stats();
    for (name, count) in stats.named() {
        // Estimates have a family with their quality.
        match name {
            "estimates" => continue,
            "silent-channels" => {
                to.family(
                    Gauge,
                    "ndtd_silent_channels",
                    "The counter silent-channels of daemon/docs/counters.md.",
                );
            }
            name => {
                let help = format!("The counter {name} of daemon/docs/counters.md.");
                to.family(Counter, &format!("ndtd_{}_total", name.replace('-', "_")), &help);
            }
        }
        to.sample(&[], count as f64);
    }
    to.family(Gauge, "ndtd_input_bins_per_second", "Bins that came, over the last ten seconds.");
    to.sample(&[], state.observed.bins_per_second(now_ns));
    to.family(
        Gauge,
        "ndtd_queue_items",
        "Items that wait in a queue, as the thread that empties it saw last.",
    );
    let (bins, estimates) = state.observer.waiting();
    to.sample(&[("queue", "bins")], bins as f64);
    to.sample(&[("queue", "estimates")], estimates as f64);
    to.family(Gauge, "ndtd_peers", "Connections to an address that the daemon has bound.");
    for (endpoint, peers) in state.observer.peers() {
        to.sample(&[("endpoint", &endpoint)], peers as f64);
    }
}

fn estimates(to: &mut Exposition, state: &State) {
    let published = state.observer.stats().guard.estimates;
    to.family(Counter, "ndtd_estimates_total", "Estimates that were published, by quality.");
    for (quality, count) in Quality::ALL.into_iter().zip(published) {
        to.sample(&[("quality", quality.name())], count as f64);
    }
    to.family(
        Counter,
        "ndtd_estimate_reasons_total",
        "Estimates that were published with a reason; some have several.",
    );
    for (reason, count) in state.observed.reasons_by_name() {
        to.sample(&[("reason", reason)], count as f64);
    }
    to.family(
        Counter,
        "ndtd_monitor_dropped_total",
        "Bins and estimates that the monitor did not look at in time.",
    );
    to.sample(&[("tap", "bins")], state.dropped.0 as f64);
    to.sample(&[("tap", "estimates")], state.dropped.1 as f64);
}

fn latencies(to: &mut Exposition, state: &State) {
    let observed = &state.observed;
    to.family(
        Histogram,
        "ndtd_latency_seconds",
        "Time of a bin in the daemon: from its arrival to the end of its step (decode), from there to its publication (publish), \
         and both together, with the answers of the policy (answer).",
    );
    to.histogram(&[("stage", "decode")], &observed.decoding);
    to.histogram(&[("stage", "publish")], &observed.publishing);
    to.histogram(&[("stage", "answer")], &observed.answering);
    to.family(
        Histogram,
        "ndtd_age_seconds",
        "From the end of a bin by the source's clock to the publication of its estimate.",
    );
    to.histogram(&[], &observed.age);
    to.family(Histogram, "ndtd_arrival_delay_seconds", "From when a bin was due to its arrival.");
    to.histogram(&[], &observed.delay);
    to.family(
        Histogram,
        "ndtd_lag_bins",
        "Bins that had come and were not answered when an estimate was published.",
    );
    to.histogram(&[], &observed.lag);
}

fn model(to: &mut Exposition, state: &State) {
    to.family(
        Gauge,
        "ndtd_model_score",
        "Bits per spike: how much better the model's rates explain the counts than each channel's mean over the same window.",
    );
    to.sample(&[("window", "10s")], state.recent.bits_per_spike(SHORT));
    to.sample(&[("window", "5m")], state.recent.bits_per_spike(LONG));
    to.family(
        Gauge,
        "ndtd_model_validation_score",
        "Bits per spike on validation trials, by which the model was chosen, of units or bins that it did not see.",
    );
    if let Some((score, value)) = state.facts.validation {
        to.sample(&[("score", score)], value);
    }
}

fn channels(to: &mut Exposition, state: &State) {
    let facts = &state.facts;
    let ids: Vec<String> = facts.channel_ids.iter().map(i64::to_string).collect();
    let means = state.recent.means(LONG);
    to.family(Gauge, "ndtd_channel_rate_hertz", "Mean firing rate of a channel over the last five minutes.");
    for (id, mean) in ids.iter().zip(&means) {
        to.sample(&[("channel", id)], mean.map(|mean| mean / facts.width_s()));
    }
    to.family(
        Gauge,
        "ndtd_channel_training_rate_hertz",
        "Mean firing rate of a channel in the bundle's golden stream.",
    );
    for (id, mean) in ids.iter().zip(&facts.trained) {
        to.sample(&[("channel", id)], mean / facts.width_s());
    }
    let bins = state.recent.bins(LONG);
    let is_drifted = |(mean, trained): (&Option<f64>, &f64)| {
        mean.is_some_and(|mean| has_drifted(mean, bins, *trained, facts.trained_bins))
    };
    let drifted = means.iter().zip(&facts.trained).filter(|pair| is_drifted(*pair)).count();
    to.family(
        Gauge,
        "ndtd_channels_drifted",
        "Channels whose rate over five minutes is less than half or more than twice that of training, by more than chance.",
    );
    to.sample(&[], drifted as f64);
    let findings = state.channels.findings();
    to.family(Gauge, "ndtd_channels_faulty", "Channels with a fault.");
    for fault in Fault::ALL {
        let count = findings.iter().filter(|finding| finding.fault == fault).count();
        to.sample(&[("fault", fault.name())], count as f64);
    }
    to.family(
        Gauge,
        "ndtd_channel_fault",
        "A channel that has a fault now, and the other channel where two are concerned. 1.",
    );
    for finding in &findings {
        let with = finding.with.map_or("", |with| &ids[with]);
        to.sample(
            &[("channel", &ids[finding.channel]), ("fault", finding.fault.name()), ("with", with)],
            1.0,
        );
    }
}

/// Whether a mean over so many bins differs from the one of training by a factor that chance does not explain. Spikes are taken to be
/// independent; that both means are of few bins is in the error.
fn has_drifted(mean: f64, bins: usize, trained: f64, trained_bins: usize) -> bool {
    if bins == 0 || trained_bins == 0 {
        return false;
    }
    let error = (mean / bins as f64 + trained / trained_bins as f64).sqrt();
    let (low, high) = (mean.min(trained), mean.max(trained));
    high > DRIFTED * low && high - low > DRIFTED_ERRORS * error
}

fn of_process(to: &mut Exposition, state: &State, process: Process) {
    to.family(Gauge, "ndtd_monitor_viewers", "Live pages that are open.");
    to.sample(&[], process.viewers as f64);
    to.family(Counter, "ndtd_monitor_turned_away_total", "Connections to the monitor above connections-max.");
    to.sample(&[], process.turned_away as f64);
    to.family(
        Counter,
        "ndtd_monitor_frames_lost_total",
        "Frames that were not sent to a page that did not keep up.",
    );
    to.sample(&[], process.frames_lost as f64);
    to.family(Gauge, "ndtd_channels", "Input channels of the bundle.");
    to.sample(&[], state.facts.channel_ids.len() as f64);
    to.family(Gauge, "process_resident_memory_bytes", "Resident memory of the daemon.");
    to.sample(&[], process.resident_bytes.map(|bytes| bytes as f64));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_drifted_where_a_factor_of_two_is_no_chance() {
        // 0.1 spikes in a bin over five minutes of 20 ms, against 48 bins of training.
        assert!(!has_drifted(0.1, 15_000, 0.25, 48));
        assert!(has_drifted(0.1, 15_000, 0.9, 48));
        assert!(has_drifted(0.9, 15_000, 0.1, 48) && has_drifted(0.0, 15_000, 0.9, 48));
        assert!(!has_drifted(0.6, 15_000, 0.9, 4_800), "less than a factor of two");
        assert!(!has_drifted(9.0, 0, 0.1, 48));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
