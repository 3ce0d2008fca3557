//! `ndtd check`: what a bundle is, whether this computer reproduces it, and what fewer bits would lose.

use super::{Choice, EngineError, EngineKind};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::{Architecture, Readout};
use ndt_protocol::bundle::precision::{Precision, ValidationLoss};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A bundle, examined.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
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
    /// Bins that one output depends on.
    pub reach_bins: usize,
    /// The velocity that is published; absent of a model of rates alone.
    pub velocity: Option<Readout>,
    /// Scores of the fit.
    pub scores: BTreeMap<String, f64>,
    /// Bins of the golden stream.
    pub golden_bins: usize,
    /// Name of the engine that would run the bundle.
    pub engine: String,
    /// The engine in each precision that it has and the bundle has been measured in, from the most bits to the least.
    pub precisions: Vec<Reproduced>,
}

/// The golden stream in one precision on this computer, and what the trainer measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reproduced {
    /// Number format in which the engine computes.
    pub precision: Precision,
    /// Whether the daemon computes in this precision by default.
    pub is_default: bool,
    /// Largest difference of a log rate from the golden ones.
    pub golden_log_rates: f32,
    /// Largest difference of a velocity, in the velocity's unit.
    pub golden_velocity: f32,
    /// Loss on the validation trials.
    pub loss: Option<ValidationLoss>,
}

/// Runs the golden stream through the engine in every precision.
///
/// # Errors
/// [`EngineError`] when the engine cannot be loaded or its numbers are not the trainer's.
pub fn examine(choice: &Choice, bundle: &Bundle) -> Result<Report, EngineError> {
    let manifest = &bundle.manifest;
    let default = super::precision(choice, bundle);
    let mut precisions = Vec::new();
    let mut name = String::new();
    let measured = |precision: &Precision| {
        let of_native = choice.kind == EngineKind::Native && manifest.precisions.contains_key(precision);
        *precision == Precision::F32 || *precision == default || of_native
    };
    for precision in Precision::ALL.into_iter().filter(measured) {
        let choice = Choice { precision: Some(precision), ..choice.clone() };
        let (engine, found) = super::load_and_compare(&choice, bundle)?;
        if precision == default {
            name = engine.name();
        }
        precisions.push(Reproduced {
            precision,
            is_default: precision == default,
            golden_log_rates: found.log_rates,
            golden_velocity: found.velocity,
            loss: manifest.precisions.get(&precision).and_then(|loss| loss.validation),
        });
    }
    Ok(Report {
        id: manifest.id.clone(),
        channels: manifest.channels(),
        channel_ids: manifest.channel_ids.clone(),
        units: manifest.units(),
        bin_width_ms: manifest.bin_width_ms,
        architecture: manifest.linear.is_none().then_some(manifest.architecture),
        parameters: bundle.weights.values().map(|(_, values)| values.len()).sum(),
        reach_bins: manifest.reach_bins(),
        velocity: manifest.velocity().cloned(),
        scores: manifest.scores.clone(),
        golden_bins: bundle.golden_bins(),
        engine: name,
        precisions,
    })
}

impl fmt::Display for Report {
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
        writeln!(f, "reach      {} bins", self.reach_bins)?;
        for (name, score) in &self.scores {
            writeln!(f, "score      {name} {score:.4}")?;
        }
        writeln!(f, "engine     {}", self.engine)?;
        write!(f, "golden     {} bins reproduced", self.golden_bins)?;
        let unit = self.velocity.as_ref().map_or("m/s", |velocity| velocity.unit.as_str());
        let score = ["co-bps", "masked-bps"].into_iter().find(|name| self.scores.contains_key(*name));
        let score = score.unwrap_or("bits/spike");
        self.precisions.iter().try_for_each(|reproduced| {
            writeln!(f)?;
            reproduced.write(f, score, unit)
        })
    }
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

impl Reproduced {
    /// Writes one line. `score` is the name of the score in bits/spike, `unit` that of the velocity.
    fn write(&self, f: &mut fmt::Formatter<'_>, score: &str, unit: &str) -> fmt::Result {
        let Reproduced { precision, is_default, golden_log_rates, golden_velocity, loss } = self;
        let mark = if *is_default { '*' } else { ' ' };
        write!(
            f,
            "  {mark} {:5}  golden: log rates within {golden_log_rates:.1e}, velocity {golden_velocity:.1e} {unit}",
            precision.name()
        )?;
        let Some(loss) = loss else { return Ok(()) };
        write!(f, "; changes {score} by {:+.5}", -loss.bits_per_spike)?;
        loss.velocity_r2.map_or(Ok(()), |lost| write!(f, ", velocity R2 by {:+.5}", -lost))?;
        write!(f, ", log rates by {:.1e} rms, {:.1e} at most", loss.log_rates_rms, loss.log_rates_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_ids_are_shown_in_their_order_as_runs() {
        assert_eq!(runs(&[1, 2, 3, 9, 7, 8, -2]), "1-3, 9, 7-8, -2");
        let odd: Vec<i64> = (0..20).map(|id| 2 * id).collect();
        assert_eq!(runs(&odd), "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, and 8 more (--json shows all)");
        assert_eq!(runs(&[]), "");
    }
}
