//! What a bundle holds, for people and as JSON: what `ndtd check` and `ndt-replay inspect --bundle` print.

use super::Bundle;
use super::manifest::{Architecture, Readout, Training};
use super::origin::{CURVE, DecoderScore, FitRecord, RecordingSplits};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use toml::{Table, Value};

/// The contents of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// The bundle's id.
    pub id: String,
    /// Number of input channels.
    pub channels: usize,
    /// Ids of the channels, in the order of a bin's counts.
    pub channel_ids: Vec<i64>,
    /// Number of output units.
    pub units: usize,
    /// Width of a bin, ms.
    pub bin_width_ms: f64,
    /// The transformer's dimensions; absent of a linear decoder.
    pub architecture: Option<Architecture>,
    /// Number of weights, biases included.
    pub parameters: usize,
    /// Number of bins that one output depends on.
    pub reach_bins: usize,
    /// The velocity that is published; absent of a model of rates alone.
    pub velocity: Option<Readout>,
    /// Scores of the fit.
    pub scores: BTreeMap<String, f64>,
    /// Where the model comes from.
    pub training: Training,
    /// The configuration of the fit; empty if unknown.
    pub config: Table,
    /// The trials of each recording by their use; empty if unknown.
    pub splits: Vec<RecordingSplits>,
    /// The record of the fit; absent if unknown.
    pub fit: Option<FitRecord>,
}

impl Bundle {
    /// What the bundle holds.
    pub fn description(&self) -> Description {
        let manifest = &self.manifest;
        Description {
            id: manifest.id.clone(),
            channels: manifest.channels(),
            channel_ids: manifest.channel_ids.clone(),
            units: manifest.units(),
            bin_width_ms: manifest.bin_width_ms,
            architecture: manifest.linear.is_none().then_some(manifest.architecture),
            parameters: self.weights.values().map(|(_, values)| values.len()).sum(),
            reach_bins: manifest.reach_bins(),
            velocity: manifest.velocity().cloned(),
            scores: manifest.scores.clone(),
            training: manifest.training.clone(),
            // A bundle with another text has been refused.
            config: self.origin.config.parse().unwrap_or_default(),
            splits: self.origin.splits.clone(),
            fit: self.origin.record.clone(),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bundle     {}", self.id)?;
        writeln!(f, "input      {} channels, {} ms bins", self.channels, self.bin_width_ms)?;
        writeln!(f, "channels   {}", runs(&self.channel_ids))?;
        let unit =
            self.velocity.as_ref().map_or_else(String::new, |velocity| format!(" in {}", velocity.unit));
        let dims = self.velocity.as_ref().map_or(0, |velocity| velocity.dims);
        writeln!(f, "output     rates of {} units, {dims} velocity components{unit}", self.units)?;
        write!(f, "model      {} parameters: ", self.parameters)?;
        match self.architecture {
            None => writeln!(f, "linear in the counts of the last bins")?,
            Some(Architecture { width, layers, heads, feedforward, window_bins, positions }) => writeln!(
                f,
                "width {width}, {layers} layers, {heads} heads, feed-forward {feedforward}, window {window_bins} bins, \
                 {positions:?}",
            )?,
        }
        write!(f, "reach      {} bins", self.reach_bins)?;
        for (name, score) in &self.scores {
            write!(f, "\nscore      {name} {score:.4}")?;
        }
        let Training { by, data, seed, epochs, parent, .. } = &self.training;
        write!(f, "\nfitted     by {by} on {}, seed {seed}, epoch {epochs}", data.join(", "))?;
        if let Some(parent) = parent {
            write!(f, ", from bundle {}", parent.get(..12).unwrap_or(parent))?;
        }
        for splits in &self.splits {
            let (train, val) = (splits.train.len() + splits.train_pieces_s.len(), splits.val.len());
            let (val, test) =
                (val + splits.val_pieces_s.len(), splits.test.len().max(splits.test_pieces_s.len()));
            let what = if splits.train_pieces_s.is_empty() { "trials" } else { "pieces" };
            write!(
                f,
                "\n{what}     {}: {train} fitted, {val} for validation, {test} for test",
                splits.identifier
            )?;
        }
        if let Some(fit) = &self.fit {
            write!(f, "\ncommand    {}", fit.command.join(" "))?;
            write!(f, "\nmachine    {}, {:.0} s", fit.machine, fit.seconds)?;
            write!(f, "\ncurve      {} epochs, those of teachers included, in {CURVE}", fit.curve.len())?;
            fit.comparison.iter().try_for_each(|decoder| write!(f, "\nbeside     {}", beside(decoder)))?;
        }
        for (table, keys) in &self.config {
            let keys = keys.as_table().into_iter().flatten();
            let keys: Vec<String> = keys.map(|(key, value)| format!("{key} {}", plain(value))).collect();
            write!(f, "\nconfig     {table}: {}", keys.join(", "))?;
        }
        Ok(())
    }
}

/// One decoder of a comparison in one line.
fn beside(DecoderScore { decoder, validation_r2, test_r2, failed, .. }: &DecoderScore) -> String {
    if let Some(why) = failed {
        return format!("{decoder}: left out: {why}");
    }
    let scores = [("validation", validation_r2), ("test", test_r2)].into_iter();
    let scores = scores.filter_map(|(split, score)| Some(format!("{split} {:.4}", (*score)?)));
    format!("{decoder}: R2 {}", scores.collect::<Vec<_>>().join(", "))
}

/// A value without quotation marks.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Largest number of runs of ids that a report for people shows.
const RUNS_MAX: usize = 12;

/// Ids in their order as text: ids that follow each other by one are shown as a run, such as `1-32, 40, 42-96`.
fn runs(ids: &[i64]) -> String {
    let runs: Vec<&[i64]> = ids.chunk_by(|id, next| id.checked_add(1) == Some(*next)).collect();
    let text = |run: &&[i64]| match run {
        [first, .., last] => format!("{first}-{last}"),
        one => format!("{}", one[0]),
    };
    let shown: Vec<String> = runs.iter().take(RUNS_MAX).map(text).collect();
    let rest = runs.iter().skip(RUNS_MAX).map(|run| run.len()).sum::<usize>();
    let more = if rest == 0 { String::new() } else { format!(", and {rest} more (--json shows all)") };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn channel_ids_are_shown_in_their_order_as_runs() {
        assert_eq!(runs(&[1, 2, 3, 9, 7, 8, -2]), "1-3, 9, 7-8, -2");
        let odd: Vec<i64> = (0..20).map(|id| 2 * id).collect();
        assert_eq!(runs(&odd), "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, and 8 more (--json shows all)");
        assert_eq!(runs(&[]), "");
    }
}
