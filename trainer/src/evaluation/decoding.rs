//! The answers of a bundle to the bins of a recording: what a daemon publishes when the recording is played to it, every readout included.
//!
//! The bins are those of the player's [`Plan`], with their numbers. Each stream from one reset to the next is computed in Burn at once.
//! What the daemon's decoder says of a bin (quality and reasons) follows from the bins before it alone. Two things are left out,
//! because they belong to a computer and to a configuration: deadlines, and the velocity by which a daemon's policy stands in for one
//! that was not computed. There the values are NaN.

use super::{EvaluateError, History, Reference, as_fitted, in_bundle_order};
use crate::baselines::linear;
use crate::data::held::TrialsInTime;
use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::folded;
use ndt_protocol::bundle::silence::Silence;
use ndt_protocol::limits::{QUEUE_BINS, RATE_HZ_MAX};
use ndt_protocol::{Bin, Bundle, Quality, Reasons};
use ndt_replay::decoded::{DecodedBin, DecodedSession, DecodedUnit};
use ndt_replay::play::{Channels, Plan};
use ndt_replay::session::{Session, Source};

/// Largest share of the channels that may have no count: the default of the daemon's `max-masked-share`.
const MASKED_SHARE_MAX: f64 = 0.5;

/// What is decoded of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decoding<'a> {
    /// Split whose trials are decoded; `None` for all trials, or all observed time where there are no trials.
    pub split: Option<&'a str>,
    /// Whether all observed time is decoded, the time between trials too. Then `split` is not used.
    pub all_time: bool,
    /// What comes before each trial.
    pub history: History,
}

/// Decodes the bins of a recording in the order in which they are played. Calls `watch` with the number of bins that are done and the
/// number of all. The fields of the result that say when and how it was made are empty.
///
/// Returns what was decided too, one sentence each.
///
/// # Errors
/// [`EvaluateError`] when the session does not fit the bundle, has no such split, or no whole observed bin.
pub fn decode(
    bundle: &Bundle,
    session: &Session,
    wanted: Decoding<'_>,
    watch: &mut dyn FnMut(usize, usize),
) -> Result<(DecodedSession, Vec<String>), EvaluateError> {
    let manifest = &bundle.manifest;
    session.check_width(manifest.bin_width_ms)?;
    let binner = Binner::new(manifest.bin_width_ms)?;
    let inputs = in_bundle_order(session, &manifest.channel_ids)?;
    let split = wanted.split.filter(|_| !wanted.all_time);
    let (mut played, notes) = match split {
        Some(split) => as_fitted(bundle, inputs, split, binner)?,
        None => (inputs, Vec::new()),
    };
    played.units.iter_mut().for_each(|unit| unit.heldout = false);
    let fitted = match bundle.origin.splits_of(&session.identifier) {
        Some(splits) => trials_alone(session).with_splits(splits).trials,
        None => played.trials.clone(),
    };
    if wanted.all_time {
        played.trials.clear();
    }
    let plan = Plan::new(&played, split, manifest.bin_width_ms, Channels::All)?;
    let plan = if wanted.history == History::Stream { plan.unflagged() } else { plan };
    let (trials, splits) = (TrialsInTime::new(&session.trials), TrialsInTime::new(&fitted));
    let mut answers = Answers::new(bundle);
    for at in 0..plan.bins() {
        answers.take(&plan, at);
    }
    answers.compute(watch);
    let half_ns = binner.width_ns() / 2;
    for bin in &mut answers.bins {
        let centre_s = (bin.end_ns - half_ns) as f64 * 1e-9;
        bin.trial = trials.at(centre_s).map(|trial| trial.id);
        bin.split = splits.at(centre_s).and_then(|trial| trial.split.clone()).unwrap_or_default();
    }
    let unit = |id: &i64| DecodedUnit { id: *id, is_input: manifest.channel_ids.contains(id) };
    let decoded = DecodedSession {
        identifier: session.identifier.clone(),
        clock: session.source.clock.clone(),
        decoded_unix_s: 0,
        bin_width_s: binner.width_s(),
        bins: answers.bins,
        units: manifest.unit_ids.iter().map(unit).collect(),
        rates: answers.rates,
        readouts: manifest.readouts.clone(),
        published: manifest.published,
        outputs: answers.outputs,
        provenance: Vec::new(),
    };
    Ok((decoded, notes))
}

/// The session without anything but its trials.
fn trials_alone(session: &Session) -> Session {
    Session {
        identifier: session.identifier.clone(),
        units: Vec::new(),
        observed: Vec::new(),
        trials: session.trials.clone(),
        behavior: Vec::new(),
        source: Source::default(),
    }
}

/// The bins of a play and the answers to them.
struct Answers<'a> {
    bundle: &'a Bundle,
    bin: Box<Bin>,
    silence: Silence,
    /// Number of channels without a count above which a bin is a fault.
    masked_max: usize,
    /// Values that stand for counts that are missing; empty where 0 does.
    absent: &'a [f32],
    /// Number and end (ns) of the last bin that came.
    last: Option<(u64, i64)>,
    /// Number of bins since the last reset.
    history: usize,
    bins: Vec<DecodedBin>,
    /// The stream that each bin belongs to, counted from 0; `None` for a bin of which nothing is computed.
    streams: Vec<Option<usize>>,
    stream: usize,
    /// Counts `[T, C]`, as the model takes them in, and whether each bin is missing, `[T]`.
    counts: Vec<f32>,
    missing: Vec<f32>,
    rates: Vec<f32>,
    outputs: Vec<f32>,
}

impl<'a> Answers<'a> {
    fn new(bundle: &'a Bundle) -> Self {
        let channels = bundle.manifest.channels();
        Answers {
            bundle,
            bin: Box::new(Bin::empty()),
            silence: Silence::new(bundle),
            masked_max: (channels as f64 * MASKED_SHARE_MAX + 1e-9).floor() as usize,
            absent: match bundle.manifest.linear {
                Some(_) => folded::values(&bundle.weights, "missing"),
                None => &[],
            },
            last: None,
            history: 0,
            bins: Vec::new(),
            streams: Vec::new(),
            stream: 0,
            counts: Vec::new(),
            missing: Vec::new(),
            rates: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Takes in a bin of the play, after those that are missing before it.
    fn take(&mut self, plan: &Plan, at: usize) {
        let manifest = &self.bundle.manifest;
        let (stamp, counts) = plan.bin(at);
        let width_ns = manifest.bin_width_ns() as i64;
        self.bin.fill(counts.iter().copied(), manifest.count_range());
        let mut reasons = Reasons::default();
        if let Some((seq, end_ns)) = self.last {
            let gap = stamp.seq - seq - 1;
            let bridged = gap <= manifest.max_gap_bins as u64;
            if !bridged {
                reasons = Reasons::LONG_GAP;
                self.reset();
            }
            // More numbers than a daemon answers one by one are skipped.
            for back in (1..=gap).rev().filter(|_| gap <= QUEUE_BINS as u64) {
                self.add_missing(stamp.seq - back, stamp.source_ns - back as i64 * width_ns, bridged);
            }
            let moved_ns = stamp.source_ns - end_ns - (gap as i64 + 1) * width_ns;
            if moved_ns.abs() > width_ns / 2 && !stamp.segment_start {
                reasons = reasons.with(Reasons::CLOCK_JUMP);
            }
        }
        if stamp.segment_start {
            reasons = reasons.with(Reasons::SEGMENT_START);
            self.reset();
        }
        self.last = Some((stamp.seq, stamp.source_ns));
        let is_missing = self.bin.is_missing();
        let (noticed, is_usable) = self.noticed();
        self.history += 1;
        let is_short = self.history < manifest.warmup_bins;
        let quality = match (is_usable, is_missing, is_short) {
            (false, ..) => Quality::Fault,
            (true, true, _) => Quality::Gap,
            (true, false, true) => Quality::Warmup,
            (true, false, false) => Quality::Good,
        };
        reasons = reasons.with(noticed).with(shortness(is_short));
        let row = self.bin.counts().iter().enumerate().map(|(channel, count)| {
            if self.bin.is_valid(channel) { *count } else { self.absent.get(channel).copied().unwrap_or(0.0) }
        });
        self.counts.extend(row);
        self.add(stamp.seq, stamp.source_ns, quality, reasons, (is_missing, true));
    }

    /// What is to be said of the counts of the bin that came, and whether anything may be computed from them.
    fn noticed(&mut self) -> (Reasons, bool) {
        let (mut reasons, mut is_usable) = (Reasons::default(), true);
        if self.bin.invalid_channels() > 0 {
            reasons = reasons.with(Reasons::INVALID_CHANNELS);
        }
        if self.bin.invalid_channels() > self.masked_max {
            reasons = reasons.with(Reasons::TOO_FEW_CHANNELS);
            is_usable = false;
        }
        if !self.bin.implausible.is_none() {
            self.silence.forget();
            return (reasons.with(Reasons::IMPLAUSIBLE_COUNTS), false);
        }
        if self.silence.takes_in(&self.bin, |_| true) {
            reasons = reasons.with(Reasons::NO_SPIKES);
        }
        (reasons, is_usable)
    }

    /// Adds a bin that was not observed: one that the model takes in as missing, or one of a gap that it does not bridge.
    fn add_missing(&mut self, seq: u64, end_ns: i64, bridged: bool) {
        let mut reasons = Reasons::MISSING_BIN;
        if bridged {
            self.history += 1;
            reasons = reasons.with(shortness(self.history < self.bundle.manifest.warmup_bins));
        }
        self.counts.extend(std::iter::repeat_n(0.0, self.bundle.manifest.channels()));
        self.add(seq, end_ns, Quality::Gap, reasons, (true, bridged));
    }

    fn add(
        &mut self,
        seq: u64,
        end_ns: i64,
        quality: Quality,
        reasons: Reasons,
        (is_missing, is_computed): (bool, bool),
    ) {
        self.bins.push(DecodedBin { seq, end_ns, quality, reasons, trial: None, split: String::new() });
        self.streams.push(is_computed.then_some(self.stream));
        self.missing.push(f32::from(is_missing));
    }

    fn reset(&mut self) {
        self.history = 0;
        self.stream += 1;
    }

    /// Computes the values of all bins, stream by stream.
    fn compute(&mut self, watch: &mut dyn FnMut(usize, usize)) {
        let manifest = &self.bundle.manifest;
        let (channels, units, outputs) = (manifest.channels(), manifest.units(), manifest.readout_dims());
        let reference = manifest.linear.is_none().then(|| Reference::new(manifest, &self.bundle.weights));
        let all = self.bins.len();
        let mut first = 0;
        for run in self.streams.chunk_by(|stream, next| stream == next) {
            let range = first..first + run.len();
            first = range.end;
            if run[0].is_none() {
                self.rates.extend(std::iter::repeat_n(f32::NAN, run.len() * units));
                self.outputs.extend(std::iter::repeat_n(f32::NAN, run.len() * outputs));
                continue;
            }
            let counts = &self.counts[range.start * channels..range.end * channels];
            let missing = &self.missing[range.clone()];
            let (log_rates, values) = match &reference {
                Some(reference) => {
                    reference.watched(counts, missing, &mut |done| watch(range.start + done, all))
                }
                None => (Vec::new(), linear::answers(self.bundle, counts, missing)),
            };
            let log_rate_max = RATE_HZ_MAX.ln();
            self.rates.extend(log_rates.iter().map(|log_rate| log_rate.min(log_rate_max).exp()));
            self.outputs.extend_from_slice(&values);
            watch(range.end, all);
        }
        self.refuse_faults(units, outputs);
    }

    /// Makes a fault of each bin whose values are not finite, and leaves no value in a fault.
    fn refuse_faults(&mut self, units: usize, outputs: usize) {
        for (at, bin) in self.bins.iter_mut().enumerate() {
            let rates = &mut self.rates[at * units..][..units];
            let values = &mut self.outputs[at * outputs..][..outputs];
            let is_finite = rates.iter().chain(values.iter()).all(|value| value.is_finite());
            if !is_finite && self.streams[at].is_some() {
                bin.quality = Quality::Fault;
                bin.reasons = bin.reasons.with(Reasons::NOT_FINITE);
            }
            if bin.quality == Quality::Fault {
                rates.fill(f32::NAN);
                values.fill(f32::NAN);
            }
        }
    }
}

fn shortness(is_short: bool) -> Reasons {
    if is_short { Reasons::SHORT_HISTORY } else { Reasons::default() }
}
