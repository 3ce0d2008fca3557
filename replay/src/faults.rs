//! What goes wrong on the way from a rig to a daemon, decided before the first bin is sent.
//!
//! [`Faults`] is what `--faults` says; [`FaultPlan`] is what it comes to for one [`Plan`]: every sending with the
//! instant it is due, and every fault with the bins it meets. **A fault plan follows from plan, faults and seed
//! alone**, whatever the speed, so that what is sent is known to whoever checks the answers. Each kind draws from a
//! generator of its own: one more fault leaves the others where they were.
//!
//! Times are played time: they pass faster in a faster play, and count from the first bin's instant in [`Faults`],
//! from the start (one bin width earlier) in the plan.

mod draw;
mod file;
mod spec;

pub use file::{FaultPlanError, VERSION};
pub use spec::{At, BURST_BINS_MAX, Faults, FaultsError, JITTER_NS_MAX, REORDER_BINS_MAX, TIME_NS_MAX};

use crate::play::Plan;
use ndt_protocol::wire::BinStamp;
use serde::{Deserialize, Serialize};

/// Probability that a bin is sent late, where bins are reordered. One in a hundred leaves most bins in their
/// place, so that what a late one does to its neighbours can be told.
pub const REORDER_PROBABILITY: f64 = 0.01;

/// Probability that a bin begins a burst of losses: once in 500 bins, ten seconds of 20 ms bins.
pub const BURST_PROBABILITY: f64 = 1.0 / 500.0;

/// How long bins carry another number of channels, ns of played time.
pub const CHANNELS_WINDOW_NS: u64 = 1_000_000_000;

/// Everything that is sent, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultPlan {
    /// What was asked for.
    pub faults: Faults,
    /// What the draws follow from.
    pub seed: u64,
    /// Bins of the plan, the lost ones among them.
    pub bins: usize,
    /// Width of a bin, ns.
    pub bin_width_ns: u64,
    /// Channels of a bin, but for those with more or fewer.
    pub channels: usize,
    /// What goes wrong, in the order of time.
    pub events: Vec<Fault>,
    /// What is sent, in this order.
    pub sendings: Vec<Sending>,
}

/// One bin that is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sending {
    /// When, from the start, ns of played time.
    pub due_ns: u64,
    /// Which bin of the plan.
    pub bin: usize,
    /// Which run of the source: 0, and one more after each restart.
    pub run: u32,
    /// Its number in the run.
    pub seq: u64,
    /// The source time that it carries, ns.
    pub source_ns: i64,
    /// Channels whose count is NaN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nan_channels: Vec<u32>,
    /// Channels that it carries beyond the right number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub channels_delta: i32,
    /// Whether it was sent before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub copy: bool,
}

/// One fault, and the bins of one run that it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// In which run of the source.
    pub run: u32,
    /// The first bin's number.
    pub first_seq: u64,
    /// The last bin's number.
    pub last_seq: u64,
    /// Since when, from the start, ns of played time.
    pub from_ns: u64,
    /// Until when, from the start, ns of played time.
    pub to_ns: u64,
    /// How much: see [`FaultKind`].
    pub by: i64,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Bins are lost, one by one; by 1.
    Drop,
    /// Bins are sent twice; by 1.
    Dup,
    /// A bin is sent after so many that come after it.
    Reorder,
    /// Bins are sent up to so many ns after their instant.
    Jitter,
    /// So many bins are lost together.
    Burst,
    /// Nothing is sent for so many ns, then all that was due.
    Stall,
    /// So many counts of a bin are NaN.
    Nan,
    /// Bins carry so many channels more.
    Channels,
    /// From this bin on the source's clock is so many ns ahead of where it was.
    Clock,
    /// With this bin the source begins anew; by the number of its run.
    Restart,
}

impl Sending {
    /// What is sent: the stamp but for stream and sending time; the counts replace those in `counts`.
    ///
    /// A channel too many carries no spikes.
    pub fn fill(&self, plan: &Plan, counts: &mut Vec<f32>) -> BinStamp {
        let (mut stamp, planned) = plan.bin(self.bin);
        stamp.seq = self.seq;
        stamp.source_ns = self.source_ns;
        counts.clear();
        counts.extend_from_slice(planned);
        for &channel in &self.nan_channels {
            counts[channel as usize] = f32::NAN;
        }
        counts.resize(planned.len().saturating_add_signed(self.channels_delta as isize), 0.0);
        stamp
    }
}

fn is_zero(delta: &i32) -> bool {
    *delta == 0
}

fn is_false(copy: &bool) -> bool {
    !copy
}
