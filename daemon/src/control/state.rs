//! All that the monitor has seen of a running daemon. Pure but for the taps that it empties.

use super::channels::ChannelHealth;
use super::frames::Pending;
use super::observed::Observed;
use super::recent::Recent;
use crate::pipeline::observer::Observer;
use crate::pipeline::taps::Taps;
use ndt_protocol::bundle::manifest::SELECTION_SCORES;
use ndt_protocol::{Bin, Bundle, Estimate, Quality};
use std::collections::VecDeque;

/// Bins that wait for their estimate at most.
const WAITING_MAX: usize = 128;

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Id of the bundle.
    pub bundle: String,
    /// Name of the engine.
    pub engine: String,
    /// Where bins come from, and where estimates go.
    pub endpoints: Vec<String>,
    /// Width of a bin, ns.
    pub width_ns: u64,
    /// Ids of the input channels, in the order of the bundle.
    pub channel_ids: Vec<i64>,
    /// Ids of the units whose rates are estimated.
    pub unit_ids: Vec<i64>,
    /// Unit and number of components of the published behaviour; `None` in a model of rates alone.
    pub velocity: Option<(String, usize)>,
    /// Name and value of the score by which the model was chosen, bits per spike on validation trials; `None` where it has none.
    pub validation: Option<(&'static str, f64)>,
    /// Mean count of each channel in the bundle's golden stream, which follows training, spikes in a bin; 0 where there is none.
    pub trained: Vec<f64>,
    /// Number of bins that this mean is of.
    pub trained_bins: usize,
    /// Highest count that the bundle accepts.
    pub count_max: u32,
}

impl Facts {
    /// Collects what is shown of a bundle that `engine` computes.
    pub fn new(bundle: &Bundle, engine: String, endpoints: Vec<String>) -> Facts {
        let manifest = &bundle.manifest;
        let known = bundle.mean_counts().into_iter().chain(std::iter::repeat(0.0));
        let score = |name: &&'static str| manifest.scores.get(*name).map(|score| (*name, *score));
        Facts {
            bundle: manifest.id.clone(),
            engine,
            endpoints,
            width_ns: manifest.bin_width_ns(),
            channel_ids: manifest.channel_ids.clone(),
            unit_ids: manifest.unit_ids.clone(),
            velocity: manifest.velocity().map(|readout| (readout.unit.clone(), readout.dims)),
            validation: SELECTION_SCORES.iter().find_map(score),
            trained: known.take(manifest.channels()).collect(),
            trained_bins: bundle.golden_bins(),
            count_max: manifest.count_max,
        }
    }

    /// Width of a bin, s.
    pub fn width_s(&self) -> f64 {
        self.width_ns as f64 * 1e-9
    }
}

/// What was seen so far.
pub struct State {
    /// What does not change.
    pub facts: Facts,
    /// Counters and signs of life.
    pub observer: Observer,
    /// Sums since the start.
    pub observed: Observed,
    /// Sums over the last minutes.
    pub recent: Recent,
    /// Health of the channels.
    pub channels: ChannelHealth,
    /// What the page has not been sent yet.
    pub pending: Pending,
    /// Bins and estimates that the taps have dropped.
    pub dropped: (u64, u64),
    /// Position of each channel among the units.
    unit_of: Vec<Option<usize>>,
    /// Bins that have come and whose estimate has not been seen yet.
    waiting: VecDeque<Box<Bin>>,
}

impl State {
    /// Has seen nothing yet.
    pub fn new(facts: Facts, observer: Observer) -> State {
        let unit = |id: &i64| facts.unit_ids.iter().position(|unit| unit == id);
        let unit_of: Vec<_> = facts.channel_ids.iter().map(unit).collect();
        let has_rates = unit_of.iter().any(Option::is_some);
        let width_s = facts.width_s();
        State {
            observed: Observed::default(),
            recent: Recent::new(facts.channel_ids.len(), width_s),
            channels: ChannelHealth::new(width_s, facts.count_max, facts.trained.clone(), has_rates),
            pending: Pending::default(),
            dropped: (0, 0),
            waiting: VecDeque::new(),
            unit_of,
            facts,
            observer,
        }
    }

    /// Empties the taps. A bin is in its tap before its estimate is in the other, so that the bins are looked at after each estimate.
    pub fn take(&mut self, taps: &Taps) {
        while let Some(estimate) = taps.estimates.try_receive() {
            taps.bins.drain().for_each(|bin| self.take_bin(bin));
            self.take_estimate(&estimate);
        }
        taps.bins.drain().for_each(|bin| self.take_bin(bin));
        self.dropped = taps.dropped();
    }

    /// Takes in a bin that came.
    pub fn take_bin(&mut self, bin: Bin) {
        self.observed.take_bin(&bin);
        self.waiting.push_back(Box::new(bin));
        if self.waiting.len() > WAITING_MAX {
            self.explain_next(None);
        }
    }

    /// Takes in an estimate that was published.
    pub fn take_estimate(&mut self, estimate: &Estimate) {
        self.observed.take_estimate(estimate);
        self.pending.add(estimate);
        let is_of = |bin: &Bin| bin.seq == estimate.seq && bin.arrival_ns == estimate.arrival_ns;
        let Some(at) = self.waiting.iter().position(|bin| is_of(bin)) else { return };
        // Estimates come in the order of the bins: those before it will have none.
        for _ in 0..at {
            self.explain_next(None);
        }
        let is_computed =
            estimate.decoded_ns > 0 && matches!(estimate.quality, Quality::Good | Quality::Warmup);
        self.explain_next(Some(estimate).filter(|_| is_computed));
    }

    /// Compares the oldest bin that waits with the rates that were computed from it, if they were.
    fn explain_next(&mut self, estimate: Option<&Estimate>) {
        let Some(bin) = self.waiting.pop_front() else { return };
        let (unit_of, width_s) = (&self.unit_of, self.facts.width_s());
        let rate = |channel: usize| -> Option<f64> {
            let unit = unit_of.get(channel).copied().flatten()?;
            Some(f64::from(*estimate?.rates().get(unit)?) * width_s)
        };
        self.recent.take_in(bin.counts_or_nan(), rate);
        let rate = |channel: usize| rate(channel).map_or(f32::NAN, |rate| rate as f32);
        let rates: Option<&dyn Fn(usize) -> f32> = if estimate.is_some() { Some(&rate) } else { None };
        self.channels.take_in(&bin, rates);
    }
}
