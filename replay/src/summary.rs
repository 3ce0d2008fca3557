//! What listening comes to: counts, latencies and scores, for people and for programs.

use crate::expect;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Latencies of one stage, us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    pub p999: u64,
    /// Longest.
    pub max: u64,
}

/// Where things stand.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Estimates received.
    pub estimates: u64,
    /// Numbers between a stream's lowest and highest that never came.
    pub missing: u64,
    /// Numbers that came again.
    pub repeated: u64,
    /// Numbers that came after a higher one.
    pub out_of_order: u64,
    /// Estimates with a rate or velocity that is not finite. None should ever be.
    pub not_finite: u64,
    /// Most bins that waited behind one that was answered.
    pub lag_bins_max: u16,
    /// Streams seen; more than one means that the source began again.
    pub streams: u64,
    /// Messages that were no estimates of this version.
    pub refused: u64,
    /// Why the last of them was refused.
    pub last_refusal: Option<String>,
    /// Estimates by quality, those that occurred.
    pub quality: BTreeMap<&'static str, u64>,
    /// Estimates by reason, those that occurred.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Of what was computed, from the bin's arrival at the daemon to the hand-over to the transport, us.
    pub arrival_to_published_us: Latency,
    /// Of it, from arrival to the decoder's end, us.
    pub arrival_to_decoded_us: Latency,
    /// From the hand-over to this program, us; only of use on one machine.
    pub published_to_received_us: Latency,
    /// From the end of the bin to this program, us: of streams, which carry none of the stamps above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bin_end_to_received_us: Option<Latency>,
    /// Estimates whose velocity was compared with a known truth.
    pub scored: u64,
    /// Velocity R2 of each axis; absent without truth.
    pub velocity_r2: Option<Vec<f64>>,
    /// Their mean.
    pub velocity_r2_mean: Option<f64>,
    /// How the daemon kept its contract; absent without a fault plan.
    pub contract: Option<expect::Report>,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {} p99 {} p99.9 {} max {} us", self.p50, self.p99, self.p999, self.max)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |counts: &BTreeMap<&str, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "estimates            {} ({})", self.estimates, named(&self.quality))?;
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
        if let (Some(axes), Some(mean)) = (&self.velocity_r2, self.velocity_r2_mean) {
            write!(f, "\nvelocity R2          {axes:.4?}, mean {mean:.4}, over {} bins", self.scored)?;
        }
        if let Some(contract) = &self.contract {
            write!(f, "\n{contract}")?;
        }
        Ok(())
    }
}
