//! The figures of a tally: counts, latencies and scores, as text for people and serialisable for programs.

use super::expectation::ContractReport;
use super::score::{by_axis, by_name};
use ndt_protocol::bundle::behavior::joined_unit;
use ndt_protocol::lsl::LABELS_VELOCITY;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Distribution of one latency, in us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99th percentile of the latency, us.
    pub p99: u64,
    /// 99.9th percentile of the latency, us.
    #[serde(rename = "p99.9")]
    pub p999: u64,
    /// Longest latency.
    pub max: u64,
}

/// Figures of everything that was received so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Number of estimates received.
    pub estimates: u64,
    /// Count of numbers between the lowest and the highest of a stream that never arrived.
    pub missing: u64,
    /// Count of numbers that arrived again.
    pub repeated: u64,
    /// Count of numbers that arrived after a higher one.
    pub out_of_order: u64,
    /// Number of estimates with a rate or velocity that is not finite; a correct daemon never publishes one.
    pub not_finite: u64,
    /// Largest number of later bins that had already arrived when a bin was answered.
    pub lag_bins_max: u16,
    /// Number of streams; more than one means that the source restarted.
    pub streams: u64,
    /// Number of messages that could not be read as estimates of this version.
    pub refused: u64,
    /// Why the last of these messages was refused.
    pub last_refusal: Option<String>,
    /// Number of estimates of each quality that occurred.
    pub quality: BTreeMap<&'static str, u64>,
    /// Number of estimates with each reason that occurred.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Time from the arrival of a bin at the daemon to the hand-over of its estimate to the transport, in us. Estimates of
    /// the policy are not counted.
    pub arrival_to_published_us: Latency,
    /// Time from the arrival of a bin at the daemon to the end of decoding, in us. Estimates of the policy are not counted.
    pub arrival_to_decoded_us: Latency,
    /// Time from the hand-over to the transport until this program received the estimate, in us. It means something only if
    /// both programs run on one machine.
    pub published_to_received_us: Latency,
    /// Time from the end of a bin until this program received its estimate, in us. Only for Lab Streaming Layer, which
    /// carries none of the stamps that the latencies above need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bin_end_to_received_us: Option<Latency>,
    /// Time from the end of a bin to the publication of its estimate by the daemon's knowledge of the source's clock, in us, of
    /// the estimates that carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_us: Option<Latency>,
    /// Number of estimates whose velocity was compared with the true one.
    pub scored: u64,
    /// Name and unit of each output that was scored, by the recording that holds the true behaviour; empty where none was.
    pub outputs: Vec<(String, String)>,
    /// Number of outputs of an estimate that was not scored because the true behaviour has another number of components, and that
    /// number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_outputs: Option<(usize, usize)>,
    /// R2 of each output (velocity or other behaviour), not a number for one that never changes; absent if the true velocity is unknown.
    pub velocity_r2: Option<Vec<f64>>,
    /// Mean velocity R2 of the axes that change.
    pub velocity_r2_mean: Option<f64>,
    /// How the daemon kept its contract; absent without a fault plan.
    pub contract: Option<ContractReport>,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {} p99 {} p99.9 {} max {} us", self.p50, self.p99, self.p999, self.max)
    }
}

impl Summary {
    /// R2 of each output by its name. Behaviour in other units than m/s is named with its unit.
    fn scored_outputs(&self, axes: &[f64]) -> String {
        let (names, units): (Vec<String>, Vec<String>) = self.outputs.iter().cloned().unzip();
        let unit = joined_unit(&units);
        let is_velocity = names.iter().zip(LABELS_VELOCITY).all(|(name, label)| name == label);
        match is_velocity && names.len() <= LABELS_VELOCITY.len() {
            true if ["m/s", ""].contains(&unit.as_str()) => format!("velocity R2          {}", by_axis(axes)),
            true => format!("velocity R2          {}, in {unit}", by_axis(axes)),
            false => format!("behaviour R2         {}, in {unit}", by_name(&names, axes)),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |counts: &BTreeMap<&str, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        write!(f, "estimates            {}", self.estimates)?;
        if !self.quality.is_empty() {
            write!(f, " ({})", named(&self.quality))?;
        }
        writeln!(f)?;
        if !self.reasons.is_empty() {
            writeln!(f, "reasons              {}", named(&self.reasons))?;
        }
        writeln!(
            f,
            "order                {} missing, {} repeated, {} out of order, {} streams, {} refused, lag at most {}",
            self.missing, self.repeated, self.out_of_order, self.streams, self.refused, self.lag_bins_max
        )?;
        if self.not_finite > 0 {
            writeln!(f, "not finite           {}", self.not_finite)?;
        }
        if let Some(refusal) = &self.last_refusal {
            writeln!(f, "last refusal         {refusal}")?;
        }
        if let Some(latency) = self.bin_end_to_received_us {
            write!(f, "end of bin to here   {latency}")?;
        } else {
            writeln!(f, "arrival to decoded   {}", self.arrival_to_decoded_us)?;
            writeln!(f, "arrival to published {}", self.arrival_to_published_us)?;
            write!(f, "published to here    {}", self.published_to_received_us)?;
        }
        if let Some(age) = self.age_us {
            write!(f, "\nage                  {age}")?;
        }
        if let (Some(axes), Some(mean)) = (&self.velocity_r2, self.velocity_r2_mean) {
            write!(f, "\n{}, mean {mean:.4}, over {} bins", self.scored_outputs(axes), self.scored)?;
        }
        if let Some((found, expected)) = self.other_outputs {
            write!(
                f,
                "\nnot scored           the estimates have {found} outputs and the true behaviour {expected}: choose it with --behavior"
            )?;
        }
        if let Some(contract) = &self.contract {
            write!(f, "\n{contract}")?;
        }
        Ok(())
    }
}
