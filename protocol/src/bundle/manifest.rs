//! `manifest.toml` of a bundle: what the model is, what goes in and what comes out.
//!
//! It holds everything that a program must know before it runs the model, so that a wrong channel order or bin width
//! is refused and not decoded.

use super::quantity::Quantity;
use crate::bin::count::CountRange;
use crate::bundle::precision::{Loss, Precision};
use crate::limits::{
    CHANNELS_MAX, COUNT_MAX, LAG_MS_MAX, LAYERS_MAX, OUTPUTS_MAX, READOUTS_MAX, UNITS_MAX, WIDTH_MAX,
    WINDOW_BINS_MAX, range_problem,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// Version of the bundle format that this code reads and writes.
///
/// **When it rises:** with every change of a file, a name, a shape or a key, an added key included, and with every change of
/// what they mean. A reader refuses a key that it does not know.
///
/// **What must be done then:** add a row to the table below; write new golden files, whose names carry the version
/// (`UPDATE_GOLDEN=1 cargo test --workspace --test bundle`), and list their digests in `tests/golden/check.rs`. Tests fail until all
/// of this is done, and when a golden file changes without a new version.
///
/// | version | what changed |
/// |---|---|
/// | 1 | first version |
/// | 2 | `count-max` |
/// | 3 | `precisions`: what a smaller number format loses |
/// | 4 | linear decoders (`linear`), further readouts (`further`), `parent` |
/// | 5 | one list of `readouts` in place of `velocity` and `further`; `published` |
/// | 6 | files `config.toml`, `splits.toml` and `fit.json`; the score of the published velocity has one name, `velocity-r2`; a readout may have a unit that belongs to no quantity |
/// | 7 | a readout may be any behaviour of up to 32 components: `series` is the text of a [`Behavior`](super::behavior::Behavior), and `unit` a list where units differ; `splits.toml` knows pieces of test |
/// | 8 | file `curve.csv`; `comparison` in `fit.json`: the scores of baselines beside the model |
pub const FORMAT_VERSION: u32 = 8;

/// Oldest version that this code reads: all that it can say means the same in [`FORMAT_VERSION`].
pub const FORMAT_VERSION_MIN: u32 = 6;

/// How the model knows the order of bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// A learned bias for each head and lag. Shift-invariant, so that keys and values can be cached.
    LagBias,
    /// A learned table over a rolling window, which is recomputed at each bin.
    Learned,
}

/// The transformer's dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Architecture {
    /// Width of the residual stream.
    pub width: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub feedforward: usize,
    /// Bins that a layer sees, its own included (`lag-bias`), or length of the window (`learned`).
    pub window_bins: usize,
    /// Position scheme.
    pub positions: Positions,
}

impl Architecture {
    /// Architecture of a bundle without a transformer.
    pub const NONE: Architecture = Architecture {
        width: 0,
        layers: 0,
        heads: 0,
        feedforward: 0,
        window_bins: 0,
        positions: Positions::LagBias,
    };

    fn none() -> Architecture {
        Architecture::NONE
    }

    fn is_none(&self) -> bool {
        *self == Architecture::NONE
    }

    /// Number of bins that one output depends on: `layers * (window - 1) + 1` with banded attention in every layer,
    /// the window itself where it is recomputed at each bin.
    pub fn reach_bins(&self) -> usize {
        match self.positions {
            Positions::LagBias => self.layers * (self.window_bins - 1) + 1,
            Positions::Learned => self.window_bins,
        }
    }
}

/// The dimensions of a linear decoder: a Wiener filter, or any other decoder whose velocity is a weighted sum of the
/// last bins' counts.
///
/// `velocity[t] = bias + sum over k of weight[k] counts[t - k]`. Before the first bin of a stream or segment all
/// counts are 0, as before the start of a trial in training. A count that never arrived is replaced by the channel's
/// entry of `missing`, its mean in training, so that a lost bin or channel does not look like silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Linear {
    /// Number of bins that one answer depends on, its own included.
    pub window_bins: usize,
}

/// One readout of a model: the hand's velocity, or another quantity of behaviour, at one lag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Readout {
    /// Number of components (2: x and y).
    pub dims: usize,
    /// Unit of the values: `m/s` and the like where the recorded unit can be converted into one of the SI, else the recorded one,
    /// e.g. `pixels/s`. Where the components differ in theirs: one for each, separated by a comma and a space.
    pub unit: String,
    /// Lag: the readout is for the bin's centre plus this, ms. Positive: ahead of the spikes.
    pub lag_ms: f64,
    /// The behaviour that the readout was fitted on: the name of a series, or the text of a
    /// [`Behavior`](super::behavior::Behavior).
    pub series: String,
}

impl Readout {
    /// The quantity that is read out; `None` for a series and a unit that belong to no quantity.
    pub fn quantity(&self) -> Option<Quantity> {
        Quantity::of(&self.series, &self.unit)
    }
}

/// Origin of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Training {
    /// Program that fitted the model, and its version.
    pub by: String,
    /// File names of the recordings, without folders.
    pub data: Vec<String>,
    /// sha256 of the contents of these recordings, in this order.
    pub data_sha256: String,
    /// Random seed.
    pub seed: u64,
    /// Number of epochs until the best weights.
    pub epochs: usize,
    /// Id of the bundle from which the fit started; absent when it started from random weights.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<String>,
}

impl Training {
    /// Describes a model that was fitted on no recording, for tests and benchmarks.
    pub fn of_nothing(by: &str) -> Training {
        let (data, data_sha256) = (Vec::new(), "0".repeat(64));
        Training { by: by.to_owned(), data, data_sha256, seed: 0, epochs: 0, parent: None }
    }
}

/// Names of the score by which an epoch is chosen and runs are ranked: that of the held-out units, or its substitute where no unit
/// is held out.
pub const SELECTION_SCORES: [&str; 2] = ["co-bps", "masked-bps"];

/// The manifest of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the program that wrote the bundle.
    pub format_version: u32,
    /// sha256 of this file with the digits of this value zeroed. As the file holds the digests of all other files, it
    /// identifies the whole bundle.
    pub id: String,
    /// Width of a bin, ms.
    pub bin_width_ms: f64,
    /// Number of bins of history from which on estimates are `good`.
    pub warmup_bins: usize,
    /// Longest gap that the model bridges, bins. After a longer gap its state is reset.
    pub max_gap_bins: usize,
    /// Highest plausible count of one channel in one bin. A higher value is not taken as a count.
    pub count_max: u32,
    /// Ids of the input channels, in input order.
    pub channel_ids: Vec<i64>,
    /// Ids of the output units, in output order; empty for a linear decoder, which estimates no rates.
    pub unit_ids: Vec<i64>,
    /// Dimensions of the transformer; absent, and [`Architecture::NONE`], for a linear decoder.
    #[serde(skip_serializing_if = "Architecture::is_none", default = "Architecture::none")]
    pub architecture: Architecture,
    /// Dimensions of the linear decoder; absent for a transformer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub linear: Option<Linear>,
    /// Readouts in the order of their columns in `readouts.weight`, `readouts.bias` and the golden `readouts`; empty in
    /// a model of rates alone. A linear decoder has exactly one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub readouts: Vec<Readout>,
    /// Index in `readouts` of the velocity that is published, and that the ONNX graphs compute; 0 without readouts. A
    /// daemon can be told to publish another one ([`crate::Bundle::reading`]).
    pub published: usize,
    /// Origin of the model.
    pub training: Training,
    /// Scores on the validation trials, by name (`co-bps`, `velocity-r2`, ...).
    pub scores: BTreeMap<String, f64>,
    /// Loss in each smaller number format; absent when it was not measured.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub precisions: BTreeMap<Precision, Loss>,
    /// sha256 of every other file of the bundle, by name, except `fit.json` and `curve.csv`.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// Number of input channels.
    pub fn channels(&self) -> usize {
        self.channel_ids.len()
    }

    /// Number of output units.
    pub fn units(&self) -> usize {
        self.unit_ids.len()
    }

    /// The values that are counts for this model.
    pub fn count_range(&self) -> CountRange {
        CountRange::new(self.count_max, self.bin_width_ms)
    }

    /// The behaviour that is published, mostly a velocity; `None` in a model of rates alone.
    pub fn velocity(&self) -> Option<&Readout> {
        self.readouts.get(self.published)
    }

    /// Whether the daemon can publish a readout: it is of the behaviour that the model was fitted to first, at whatever lag.
    pub fn is_publishable(&self, readout: &Readout) -> bool {
        self.readouts.first().is_some_and(|first| first.series == readout.series)
    }

    /// Number of components of the velocity that is published; 0 in a model of rates alone.
    pub fn velocity_dims(&self) -> usize {
        self.velocity().map_or(0, |velocity| velocity.dims)
    }

    /// Number of components of all readouts together.
    pub fn readout_dims(&self) -> usize {
        self.readouts.iter().map(|readout| readout.dims).sum()
    }

    /// Columns of the velocity that is published, among those of all readouts; empty in a model of rates alone.
    pub fn velocity_columns(&self) -> Range<usize> {
        let first = self.readouts.iter().take(self.published).map(|readout| readout.dims).sum();
        first..first + self.velocity_dims()
    }

    /// Number of bins that one output depends on: the window of a linear decoder, else [`Architecture::reach_bins`].
    pub fn reach_bins(&self) -> usize {
        self.linear.map_or_else(|| self.architecture.reach_bins(), |linear| linear.window_bins)
    }

    /// Width of a bin, ns.
    pub fn bin_width_ns(&self) -> u64 {
        (self.bin_width_ms * 1e6).round() as u64
    }

    /// Width of a bin, us, as messages carry it.
    pub fn bin_width_us(&self) -> u32 {
        (self.bin_width_ns() / 1_000) as u32
    }

    /// From a bin's end to the instant that its velocity is for, ns.
    pub fn velocity_offset_ns(&self) -> i64 {
        let lag_ms = self.velocity().map_or(0.0, |velocity| velocity.lag_ms);
        ((lag_ms - self.bin_width_ms / 2.0) * 1e6).round() as i64
    }

    /// Name and shape of every weight, in the order of the computation.
    pub fn weight_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let Architecture { width, layers, heads, feedforward, window_bins, positions } = self.architecture;
        let (channels, units, dims) = (self.channels(), self.units(), self.readout_dims());
        let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
        let mut add = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
        if let Some(Linear { window_bins }) = self.linear {
            // The newest bin first.
            add("linear.weight".into(), &[window_bins, channels, dims]);
            add("linear.bias".into(), &[dims]);
            add("missing".into(), &[channels]);
            return shapes;
        }
        add("readin.weight".into(), &[channels, width]);
        add("readin.bias".into(), &[width]);
        add("missing".into(), &[width]);
        if positions == Positions::Learned {
            add("position".into(), &[window_bins, width]);
        }
        for layer in 0..layers {
            add(format!("layer.{layer}.norm1.weight"), &[width]);
            add(format!("layer.{layer}.norm1.bias"), &[width]);
            for part in ["query", "key", "value", "output"] {
                add(format!("layer.{layer}.attention.{part}.weight"), &[width, width]);
                add(format!("layer.{layer}.attention.{part}.bias"), &[width]);
            }
            if positions == Positions::LagBias {
                add(format!("layer.{layer}.attention.lag_bias"), &[heads, window_bins]);
            }
            add(format!("layer.{layer}.norm2.weight"), &[width]);
            add(format!("layer.{layer}.norm2.bias"), &[width]);
            add(format!("layer.{layer}.feedforward.up.weight"), &[width, feedforward]);
            add(format!("layer.{layer}.feedforward.up.bias"), &[feedforward]);
            add(format!("layer.{layer}.feedforward.down.weight"), &[feedforward, width]);
            add(format!("layer.{layer}.feedforward.down.bias"), &[width]);
        }
        add("norm.weight".into(), &[width]);
        add("norm.bias".into(), &[width]);
        add("rates.weight".into(), &[width, units]);
        add("rates.bias".into(), &[units]);
        if dims > 0 {
            add("readouts.weight".into(), &[width, dims]);
            add("readouts.bias".into(), &[dims]);
        }
        shapes
    }

    /// Returns a sentence for each number of this manifest that cannot be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let limits = [
            ("a number of channels", self.channels(), 1, CHANNELS_MAX),
            ("a warm-up of bins", self.warmup_bins, 0, WINDOW_BINS_MAX),
            ("a longest gap of bins", self.max_gap_bins, 0, WINDOW_BINS_MAX),
            ("a highest count", self.count_max as usize, 1, COUNT_MAX as usize),
        ];
        expect_each(&limits, &mut problems);
        match self.linear {
            None => self.transformer_problems(&mut problems),
            Some(Linear { window_bins }) => {
                let limits = [
                    ("a window of bins", window_bins, 1, WINDOW_BINS_MAX),
                    ("a linear decoder's number of units", self.units(), 0, 0),
                    ("a linear decoder's number of readouts", self.readouts.len(), 1, 1),
                ];
                expect_each(&limits, &mut problems);
                if !self.architecture.is_none() {
                    problems.push("expected an architecture or a linear decoder, found both".to_owned());
                }
            }
        }
        self.readout_problems(&mut problems);
        if let Err(error) = crate::binner::Binner::new(self.bin_width_ms) {
            problems.push(error.to_string());
        }
        for (what, ids) in [("channel", &self.channel_ids), ("unit", &self.unit_ids)] {
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                problems.push(format!("expected every {what} id once, found {} twice", twice[0]));
            }
        }
        problems
    }

    fn readout_problems(&self, problems: &mut Vec<String>) {
        let last = self.readouts.len().saturating_sub(1);
        let limits = [
            ("a number of readouts", self.readouts.len(), 0, READOUTS_MAX),
            ("the index of the published readout", self.published, 0, last),
        ];
        expect_each(&limits, problems);
        for Readout { dims, unit, lag_ms, series } in &self.readouts {
            let components = format!("a number of components of {series}");
            problems.extend(range_problem(&components, *dims, 1, OUTPUTS_MAX));
            problems.extend(range_problem(
                &format!("a lag in ms of {series}"),
                *lag_ms,
                -LAG_MS_MAX,
                LAG_MS_MAX,
            ));
            let is_named = Quantity::ALL.iter().any(|quantity| quantity.series() == series);
            if unit.trim().is_empty() || (is_named && Quantity::of(series, unit).is_none()) {
                let mut units = Quantity::ALL.map(Quantity::unit).to_vec();
                units.dedup();
                let units = units.join(", ");
                problems.push(format!(
                    "expected {series} in the unit of its quantity, or in one that belongs to none of {units}, found \
                     \"{unit}\""
                ));
            }
        }
        if let Some((published, first)) = self.velocity().zip(self.readouts.first())
            && !self.is_publishable(published)
        {
            let (expected, Readout { unit, series, .. }) = (&first.series, published);
            problems
                .push(format!("expected {expected} as the published readout, found {series} in \"{unit}\""));
        }
    }

    fn transformer_problems(&self, problems: &mut Vec<String>) {
        let Architecture { width, layers, heads, feedforward, window_bins, .. } = self.architecture;
        if self.architecture.is_none() {
            problems.push("expected an architecture or a linear decoder, found neither".to_owned());
            return;
        }
        let limits = [
            ("a number of units", self.units(), 1, UNITS_MAX),
            ("a width", width, 1, WIDTH_MAX),
            ("a number of layers", layers, 1, LAYERS_MAX),
            ("a number of heads", heads, 1, width.max(1)),
            ("a feed-forward width", feedforward, 1, 4 * WIDTH_MAX),
            ("a window of bins", window_bins, 2, WINDOW_BINS_MAX),
        ];
        expect_each(&limits, problems);
        if heads > 0 && width % heads != 0 {
            problems
                .push(format!("expected a number of heads that divides the width {width}, found {heads}"));
        }
    }
}

/// Adds a sentence for each `(what, found, low, high)` that is outside its limits.
fn expect_each(limits: &[(&str, usize, usize, usize)], problems: &mut Vec<String>) {
    problems.extend(
        limits.iter().filter_map(|(what, found, low, high)| range_problem(what, *found, *low, *high)),
    );
}
