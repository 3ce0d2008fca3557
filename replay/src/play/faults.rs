//! What goes wrong on the way from a rig to a daemon, decided before the first bin is sent.
//!
//! [`FaultKind::TABLE`] lists the kinds of fault. [`Faults`] is what the option `--faults` asks for. [`FaultPlan`] is what
//! these faults do to one [`Plan`]: every bin that is sent and the instant at which it is due, and every fault and the bins
//! that it affects. **A fault plan follows from plan, faults and seed alone**, whatever the speed, so that whoever checks
//! the daemon's answers knows what was sent. Each kind draws from a random generator of its own: adding a fault leaves the
//! other faults where they were.
//!
//! Times are played time, which passes faster in a faster play. In [`Faults`] it counts from the instant of the first bin, in
//! a [`FaultPlan`] from the start of the play, one bin width earlier.

mod draw;
mod file;
mod kind;
mod spec;

pub use file::{FaultPlanError, VERSION};
pub use kind::{Effect, FaultKind, FaultRow};
pub use spec::{At, BURST_BINS_MAX, Faults, FaultsError, JITTER_NS_MAX, REORDER_BINS_MAX, TIME_NS_MAX};

use super::plan::Plan;
use ndt_protocol::wire::BinStamp;
use serde::{Deserialize, Serialize};

/// Probability that a bin is sent late by `reorder`. One in a hundred leaves most bins in their place, so that the effect of
/// a late bin on its neighbours can be seen.
pub const REORDER_PROBABILITY: f64 = 0.01;

/// Probability that a bin begins a burst of losses: once in 500 bins, which is ten seconds of 20 ms bins.
pub const BURST_PROBABILITY: f64 = 1.0 / 500.0;

/// Duration for which bins carry another number of channels, in ns of played time.
pub const CHANNELS_WINDOW_NS: u64 = 1_000_000_000;

/// The plan of one play: every bin that is sent, and every fault.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultPlan {
    /// Faults that were asked for.
    pub faults: Faults,
    /// Seed of all draws.
    pub seed: u64,
    /// Number of bins in the plan, including lost bins.
    pub bins: usize,
    /// Width of a bin, in ns.
    pub bin_width_ns: u64,
    /// Number of channels in a bin of the plan.
    pub channels: usize,
    /// Faults that happen, in the order of time.
    pub events: Vec<FaultEvent>,
    /// Bins that are sent, in the order of sending.
    pub sendings: Vec<Sending>,
}

/// The sending of one bin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sending {
    /// Time at which the bin is due, from the start of the play, in ns of played time.
    pub due_ns: u64,
    /// Index of the bin in the plan.
    pub bin: usize,
    /// Run of the source: 0 at first, and one more after each restart.
    pub run: u32,
    /// Number of the bin in its run.
    pub seq: u64,
    /// Source time that the bin carries, in ns.
    pub source_ns: i64,
    /// Channels whose count is NaN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nan_channels: Vec<u32>,
    /// Number of channels beyond the right number; negative if channels are missing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub channels_delta: i32,
    /// Whether this bin was sent before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub copy: bool,
}

/// One fault, and the bins of one run that it affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FaultEvent {
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Run of the source in which the fault happens.
    pub run: u32,
    /// Number of the first affected bin.
    pub first_seq: u64,
    /// Number of the last affected bin.
    pub last_seq: u64,
    /// Time at which the fault begins, from the start of the play, in ns of played time.
    pub from_ns: u64,
    /// Time at which the fault ends, from the start of the play, in ns of played time.
    pub to_ns: u64,
    /// Amount, in the unit that [`FaultRow::amount`] gives for the kind.
    pub by: i64,
}

/// Error of a play whose faults were drawn for another plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected faults for {expected} bins of {channels} channels, found some for {found} of {found_channels}"
)]
pub struct OtherPlan {
    /// Number of bins in the plan.
    pub expected: usize,
    /// Number of channels in the plan.
    pub channels: usize,
    /// Number of bins in the plan that the faults were drawn for.
    pub found: usize,
    /// Number of channels in the plan that the faults were drawn for.
    pub found_channels: usize,
}

impl FaultPlan {
    /// Checks that these faults were drawn for `plan`.
    ///
    /// # Errors
    /// [`OtherPlan`] if the number of bins, the number of channels or the bin width differs.
    pub fn check_is_for(&self, plan: &Plan) -> Result<(), OtherPlan> {
        let (expected, channels) = (plan.bins(), plan.channel_ids().len());
        let FaultPlan { bins: found, channels: found_channels, bin_width_ns, .. } = *self;
        if (found, found_channels, bin_width_ns) == (expected, channels, plan.bin_width_ns()) {
            Ok(())
        } else {
            Err(OtherPlan { expected, channels, found, found_channels })
        }
    }
}

impl Sending {
    /// Number of channels that carry no count: a daemon treats them as silent, and a bin of only such channels as missing.
    pub fn invalid_channels(&self) -> usize {
        self.nan_channels.len()
    }

    /// Writes the counts that are sent to `counts`, whose contents they replace, and returns the stamp. Stream and sending
    /// time of the stamp are 0: the sender sets them. Surplus channels carry the count 0.
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
