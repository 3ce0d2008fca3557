//! What the live page is sent once a second: judgements, counters, peers, the bundle and the health of the channels.

use super::channels::Finding;
use super::frames::{event, units_per_row};
use super::health;
use super::recent::{LONG, SHORT};
use super::state::State;
use crate::host::watchdog;
use ndt_protocol::Quality;
use ndt_protocol::bundle::hex;
use serde::Serialize;
use std::collections::BTreeMap;

/// What changes slowly.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Summary<'a> {
    bundle: &'a str,
    engine: &'a str,
    version: &'static str,
    endpoints: &'a [String],
    bin_ms: f64,
    channels: usize,
    units: usize,
    /// Units that share a row of the map.
    units_per_row: usize,
    unit: Option<&'a str>,
    /// Why the daemon is not healthy, or not ready; empty where it is.
    health: String,
    ready: String,
    bins_per_second: f64,
    counters: BTreeMap<&'static str, u64>,
    qualities: BTreeMap<&'static str, u64>,
    reasons: BTreeMap<&'static str, u64>,
    peers: Vec<(String, u64)>,
    viewers: usize,
    bits: [Option<f64>; 2],
    validation: Option<(&'static str, f64)>,
    channel_ids: &'a [i64],
    /// Running and training rate of each channel, spikes/s.
    rates: Vec<Option<f32>>,
    trained: Vec<f32>,
    findings: Vec<Finding>,
}

/// Returns an event with what changes slowly, as it is at `now_ns`, for one of so many `viewers`.
pub fn summary(state: &State, viewers: usize, now_ns: u64) -> Option<String> {
    let (facts, stats) = (&state.facts, state.observer.stats());
    let health = watchdog::judge(&state.observer.heartbeats(), now_ns);
    let ready = health::ready(&state.observed, &stats, facts.width_ns, now_ns);
    let per_s = |mean: f64| (mean / facts.width_s()) as f32;
    let newest = state.observed.newest.as_ref().map(|newest| hex(&newest.bundle));
    let bundle = newest.filter(|id| id.bytes().any(|digit| digit != b'0'));
    let names = Quality::ALL.map(|quality| quality.name());
    let summary = Summary {
        bundle: bundle.as_deref().unwrap_or(&facts.bundle),
        engine: &facts.engine,
        version: env!("CARGO_PKG_VERSION"),
        endpoints: &facts.endpoints,
        bin_ms: facts.width_s() * 1e3,
        channels: facts.channel_ids.len(),
        units: facts.unit_ids.len(),
        units_per_row: units_per_row(facts.unit_ids.len()),
        unit: facts.velocity.as_ref().map(|(unit, _)| unit.as_str()),
        health: health.err().map_or_else(String::new, |unhealthy| unhealthy.to_string()),
        ready: ready.err().map_or_else(String::new, |not| not.to_string()),
        bins_per_second: state.observed.bins_per_second(now_ns),
        counters: stats.named().into_iter().collect(),
        qualities: names.into_iter().zip(state.observed.qualities).collect(),
        reasons: state.observed.reasons_by_name().into_iter().filter(|(_, count)| *count > 0).collect(),
        peers: state.observer.peers(),
        viewers,
        bits: [SHORT, LONG].map(|blocks| state.recent.bits_per_spike(blocks)),
        validation: facts.validation,
        channel_ids: &facts.channel_ids,
        rates: state.recent.means(SHORT).into_iter().map(|mean| mean.map(per_s)).collect(),
        trained: facts.trained.iter().map(|mean| per_s(*mean)).collect(),
        findings: state.channels.findings(),
    };
    event("summary", &summary)
}
