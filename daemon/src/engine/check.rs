//! `ndtd check`: what a bundle is, whether this computer reproduces it, and what fewer bits would lose.

use super::{Choice, EngineError, EngineKind};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::description::Description;
use ndt_protocol::bundle::manifest::SELECTION_SCORES;
use ndt_protocol::bundle::precision::{Precision, ValidationLoss};
use serde::Serialize;
use std::fmt;

/// A bundle, examined.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What the bundle holds.
    #[serde(flatten)]
    pub bundle: Description,
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
    Ok(Report { bundle: bundle.description(), golden_bins: bundle.golden_bins(), engine: name, precisions })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.bundle)?;
        writeln!(f, "engine     {}", self.engine)?;
        write!(f, "golden     {} bins reproduced", self.golden_bins)?;
        let unit = self.bundle.velocity.as_ref().map_or("m/s", |velocity| velocity.unit.as_str());
        let score = SELECTION_SCORES.into_iter().find(|name| self.bundle.scores.contains_key(*name));
        let score = score.unwrap_or("bits/spike");
        self.precisions.iter().try_for_each(|reproduced| {
            writeln!(f)?;
            reproduced.write(f, score, unit)
        })
    }
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
