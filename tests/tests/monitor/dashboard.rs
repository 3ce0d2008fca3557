//! The dashboard and the alerts name only metrics that there are.

use super::client;
use super::metrics::{families, promtool};
use super::rig::Daemon;
use ndt_tests::workspace;
use std::collections::BTreeSet;

const DASHBOARD: &str = "daemon/docs/grafana.json";
const ALERTS: &str = "daemon/docs/alerts.yml";

/// The words of a text that are names of metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_name(c))
        .filter(|word| word.starts_with("ndtd_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn every_metric_of_the_dashboard_and_of_the_alerts_is_there() {
    let daemon = Daemon::start(|_| {});
    let text = client::get(daemon.address(), "/metrics").body;
    let families = families(&text);
    let read = |file: &str| std::fs::read_to_string(workspace().join(file)).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 10, "{queries:?}");
    let (queries, alerts) = (queries.join("\n"), read(ALERTS));
    let known = |name: &&str| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .any(|part| name.strip_suffix(part).is_some_and(|family| families.contains(family)))
            || families.contains(*name)
    };
    for (file, text) in [(DASHBOARD, &queries), (ALERTS, &alerts)] {
        let names = named(text);
        let unknown: Vec<_> = names.iter().filter(|name| !known(name)).collect();
        assert!(names.len() > 5 && unknown.is_empty(), "{file}: not in /metrics: {unknown:?}");
    }
    promtool(&["check", "rules", workspace().join(ALERTS).to_str().unwrap()], "");
}
