//! The spike counts that the benchmark sends.

use super::BenchError;
use ndt_protocol::wire::Description;
use ndt_protocol::{Bin, Bundle, CountRange};
use std::sync::Arc;

/// The bundle's golden counts, repeated. They are as dense as the training data, which decides how much work a bin
/// is, and they need no random seed.
#[derive(Debug, Clone)]
pub struct GoldenCounts {
    /// Golden counts `[bins, channels]`.
    counts: Arc<[f32]>,
    channels: usize,
    channel_ids: Arc<[i64]>,
    range: CountRange,
    bin_width_us: u32,
}

impl GoldenCounts {
    /// Takes the golden counts of `bundle`.
    ///
    /// # Errors
    /// [`BenchError::NoCounts`] when the bundle has no golden vectors.
    pub fn of(bundle: &Bundle) -> Result<GoldenCounts, BenchError> {
        let channels = bundle.manifest.channels();
        let counts = bundle.golden.get("counts").map_or(&[][..], |(_, counts)| counts);
        if counts.len() < channels.max(1) {
            return Err(BenchError::NoCounts);
        }
        let whole = counts.len() - counts.len() % channels;
        Ok(GoldenCounts {
            counts: counts[..whole].into(),
            channels,
            channel_ids: bundle.manifest.channel_ids.as_slice().into(),
            range: bundle.manifest.count_range(),
            bin_width_us: bundle.manifest.bin_width_us(),
        })
    }

    /// Returns the counts of bin `seq`.
    pub fn of_bin(&self, seq: u64) -> &[f32] {
        let bins = self.counts.len() / self.channels;
        &self.counts[(seq % bins as u64) as usize * self.channels..][..self.channels]
    }

    /// Returns the description that a rig sends with these counts: bin width and channel ids.
    pub fn description(&self) -> Description {
        Description::Bins { bin_width_us: self.bin_width_us, channel_ids: self.channel_ids.to_vec() }
    }

    /// Width of a bin, us.
    pub fn bin_width_us(&self) -> u32 {
        self.bin_width_us
    }

    /// Makes `bin` the bin number `seq` of a stream, due at `due_ns` and arrived at `arrival_ns`.
    pub fn fill(&self, seq: u64, due_ns: u64, arrival_ns: u64, bin: &mut Bin) {
        bin.fill(self.of_bin(seq).iter().copied(), self.range);
        bin.seq = seq;
        bin.stream = 1;
        bin.source_ns = due_ns.cast_signed();
        bin.arrival_ns = arrival_ns;
        bin.segment_start = false;
    }
}
