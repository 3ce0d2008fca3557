//! `/metrics` against what the daemon itself counts, and against Prometheus' own checks.

use super::client::{self, value};
use super::rig::{CHANNELS, Daemon};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs `promtool` with these words and this input; `None`, with the reason printed, where it is not installed.
pub fn promtool(words: &[&str], input: &str) -> Option<()> {
    let mut command = Command::new("promtool");
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut running) = command.spawn() else {
        println!("skipped: this machine has no promtool (Debian's package prometheus)");
        return None;
    };
    running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    println!("promtool {words:?}: {said}");
    assert!(output.status.success(), "promtool {words:?} found: {said}");
    Some(())
}

/// The names of the families of a text.
pub fn families(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn every_metric_says_what_the_daemon_counts() {
    let mut daemon = Daemon::start(|_| {});
    daemon.play();
    let address = daemon.address();
    let good = |text: &str| value(text, "ndtd_estimates_total{quality=\"good\"}").unwrap_or(0.0);
    client::until(address, "/metrics", |answer| good(&answer.body) >= 400.0);
    daemon.pause();
    // The last bins are answered, and then the silence is.
    let stale = "ndtd_estimate_reasons_total{reason=\"peer-silent\"}";
    let text =
        client::until(address, "/metrics", |answer| value(&answer.body, stale).unwrap_or(0.0) >= 3.0).body;
    let of = |name: &str| value(&text, name).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    assert_eq!(of("ndtd_bins_total"), daemon.sent() as f64);
    assert_eq!(of("ndtd_healthy"), 1.0);
    assert_eq!(of("ndtd_bin_width_seconds"), 0.005);
    assert_eq!(of("ndtd_channels"), CHANNELS as f64);
    // Every bin was seen by the taps and passed every stage, as nothing was lost on a machine that kept up.
    let lost: f64 = ["bins", "estimates"]
        .iter()
        .map(|tap| of(&format!("ndtd_monitor_dropped_total{{tap=\"{tap}\"}}")))
        .sum();
    let computed = of("ndtd_latency_seconds_count{stage=\"decode\"}");
    assert!(computed + lost >= good(&text) && computed <= of("ndtd_bins_total"), "{computed} of {text}");
    let inside = of("ndtd_latency_seconds_bucket{stage=\"decode\",le=\"+Inf\"}");
    assert_eq!(inside, computed);
    assert!(
        of("ndtd_latency_seconds_sum{stage=\"answer\"}") >= of("ndtd_latency_seconds_sum{stage=\"decode\"}")
    );
    assert!(of("ndtd_estimates_total{quality=\"stale\"}") >= 3.0);
    assert_eq!(of("ndtd_model_validation_score{score=\"masked-bps\"}"), 0.125);
    // A model of random weights knows less than the means.
    assert!(of("ndtd_model_score{window=\"10s\"}") < 0.1);
    let rate = of("ndtd_channel_rate_hertz{channel=\"3\"}");
    // Three draws of 0.12 in a bin of 5 ms.
    assert!((rate - 72.0).abs() < 15.0, "{rate}");
    assert!(of("process_resident_memory_bytes") > 1e6);
    let endpoint = format!("ndtd_peers{{endpoint=\"{}\"}}", daemon.pipeline.input());
    assert_eq!(of(&endpoint), 1.0, "the rig");
    promtool(&["check", "metrics"], &text);
}

#[test]
fn every_family_is_explained_on_its_page() {
    let daemon = Daemon::start(|_| {});
    let text = client::get(daemon.address(), "/metrics").body;
    let page = std::fs::read_to_string(ndt_tests::workspace().join("daemon/docs/monitoring.md")).unwrap();
    let counters = std::fs::read_to_string(ndt_tests::workspace().join("daemon/docs/counters.md")).unwrap();
    let mut unknown = Vec::new();
    for family in families(&text) {
        // The page says once that each counter of the other page is a metric.
        let counter = family.strip_prefix("ndtd_").unwrap_or(family);
        let counter = counter.strip_suffix("_total").unwrap_or(counter).replace('_', "-");
        if !page.contains(&format!("`{family}`")) && !counters.contains(&format!("| `{counter}` |")) {
            unknown.push(family);
        }
    }
    assert!(unknown.is_empty(), "not explained in daemon/docs/monitoring.md: {unknown:?}");
    let explained =
        page.split('`').filter(|word| word.starts_with("ndtd_") && !word.contains([' ', '*', '<']));
    let explained = explained.filter_map(|word| word.split('{').next());
    let gone: Vec<&str> = explained.filter(|name| !families(&text).contains(name)).collect();
    assert!(gone.is_empty(), "explained and not in /metrics: {gone:?}");
}
