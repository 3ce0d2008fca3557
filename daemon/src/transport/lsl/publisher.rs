//! Estimates to streams: rates on one, velocity with its quality on another.
//!
//! **A thread of its own pushes them**, behind a bounded queue: pushing a sample takes locks of the library's, which its
//! threads hold at any priority while a receiver comes or goes, and must hold up neither the publish thread nor ZeroMQ.
//! That costs this path one more wake-up. Pushing both streams to a receiver each takes 14 us, in one of a hundred bins
//! 130 us, at worst nearly 2 ms (`ndtd bench --transport lsl`, normal priority): too much for the publish thread.

use crate::host::realtime::{self, RealtimeSettings};
use crate::output::Publisher;
use crate::queue::Queue;
use crossbeam_channel::{Receiver, Sender, bounded};
use ndt_protocol::limits::VELOCITY_DIMS_MAX;
use ndt_protocol::lsl::{self, Channel, Description, Format, Kind, Library, LslError, Outlet, StreamInfo};
use ndt_protocol::{Bundle, Estimate, Quality};
use sha2::{Digest, Sha256};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::warn;

/// Samples that wait for a receiver that does not read; then it loses the oldest. Ten seconds of 20 ms bins.
const BUFFER_SAMPLES: usize = 512;

/// Estimates that wait for the thread; then it loses the oldest. More than a second of 20 ms bins, and a megabyte.
const QUEUE_ESTIMATES: usize = 64;

/// How often it is told that estimates were dropped.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Hands estimates to the thread that pushes them.
pub struct LslPublisher {
    /// `None` once it ends.
    queue: Option<Queue<Estimate>>,
    dropped: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl LslPublisher {
    /// Offers the streams `NAME-velocity` and, of a bundle with units, `NAME-rates`, and starts the thread.
    ///
    /// # Errors
    /// [`LslError`]; the system's when it gives no thread.
    pub fn open(
        library: &Library,
        name: &str,
        bundle: &Bundle,
        engine: &str,
        settings: &RealtimeSettings,
    ) -> Result<LslPublisher, LslError> {
        let infos = infos(library, name, bundle, engine)?;
        let (queue, estimates) = Queue::with_places(&Estimate::zero(0, 0), QUEUE_ESTIMATES);
        let (dropped, tell) = bounded(1);
        let (open, opened) = bounded(1);
        let (settings, ahead_ns) = (settings.clone(), library.ahead_of_monotonic_ns());
        let push = move || {
            // What is refused here was refused to the pipeline's threads too, and is reported of them. The library's
            // sending threads inherit what is not.
            drop(realtime::enter(&settings));
            let streams = Streams::offer(&infos, ahead_ns);
            let (streams, done) = match streams {
                Ok(streams) => (Some(streams), Ok(())),
                Err(error) => (None, Err(error)),
            };
            drop(open.send(done));
            if let Some(streams) = streams {
                push_all(streams, &estimates, &tell);
            }
        };
        let no_thread = |found: String| LslError::Refused { what: "have a thread", found };
        let thread = std::thread::Builder::new().name("lsl-out".to_owned()).spawn(push);
        let thread = Some(thread.map_err(|error| no_thread(error.to_string()))?);
        let publisher = LslPublisher { queue: Some(queue), dropped, thread };
        opened.recv().map_err(|_| no_thread("a panic".to_owned()))??;
        Ok(publisher)
    }
}

impl Publisher for LslPublisher {
    /// Hands the estimate to the thread that pushes it. Neither allocates nor blocks; when the thread does not keep up, the
    /// oldest estimate is dropped.
    fn publish(&mut self, estimate: &Estimate) {
        if self.queue.as_ref().is_some_and(|queue| queue.push(estimate.clone())) {
            _ = self.dropped.try_send(());
        }
    }
}

impl Drop for LslPublisher {
    /// Waits for the thread: what was handed over is still pushed.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Runs on the pushing thread until the publisher is dropped.
fn push_all(mut streams: Streams, estimates: &Receiver<Estimate>, dropped: &Receiver<()>) {
    let mut told = Instant::now();
    while let Ok(estimate) = estimates.recv() {
        streams.push(&estimate);
        if told.elapsed() > TELL_EVERY && dropped.try_recv().is_ok() {
            warn!("expected lsl-out to keep up, found estimates dropped from its full queue");
            told = Instant::now();
        }
    }
}

/// What the streams of one output say of themselves: velocity, and rates where there are any.
fn infos(
    library: &Library,
    name: &str,
    bundle: &Bundle,
    engine: &str,
) -> Result<(StreamInfo, Option<StreamInfo>), LslError> {
    let describe = |name: String, content_type: &str, channels: Vec<Channel>| {
        let source_id = source_id(&bundle.manifest.id, &name);
        let kind = Kind {
            name: &name,
            content_type,
            rate_hz: 1e3 / bundle.manifest.bin_width_ms,
            format: Format::Float32,
            source_id: &source_id,
        };
        StreamInfo::new(library, &kind, &Description { channels, entries: entries(bundle, engine) })
    };
    let rate = |id: &i64| Channel::new(id, "spikes/s", "Rate");
    let rates: Vec<Channel> = bundle.manifest.unit_ids.iter().map(rate).collect();
    let components = lsl::LABELS_VELOCITY.iter().take(bundle.manifest.velocity_dims());
    let mut velocity: Vec<Channel> = components.map(|label| Channel::new(label, "m/s", "Velocity")).collect();
    velocity.push(Channel::new(lsl::LABEL_QUALITY, "", "Quality"));
    velocity.push(Channel::new(lsl::LABEL_REASONS, "", "Flags"));
    velocity.push(Channel::new(lsl::LABEL_BIN, "", "Index"));
    // The library has no streams without channels.
    let rates = (!rates.is_empty()).then(|| describe(lsl::rates_name(name), lsl::TYPE_RATES, rates));
    Ok((describe(lsl::velocity_name(name), lsl::TYPE_VELOCITY, velocity)?, rates.transpose()?))
}

/// The streams of one output. Owned by the pushing thread, which makes them.
struct Streams {
    rates: Option<Outlet>,
    velocity: Outlet,
    ahead_ns: i64,
}

impl Streams {
    fn offer(
        (velocity, rates): &(StreamInfo, Option<StreamInfo>),
        ahead_ns: i64,
    ) -> Result<Streams, LslError> {
        let outlet = |info| Outlet::new(info, BUFFER_SAMPLES);
        let rates = rates.as_ref().map(outlet).transpose()?;
        Ok(Streams { rates, velocity: outlet(velocity)?, ahead_ns })
    }

    /// Pushes one estimate to each, with one stamp. Runs on the pushing thread, once a bin; does not allocate.
    fn push(&mut self, estimate: &Estimate) {
        let stamp_s = stamp_s(estimate, self.ahead_ns);
        let (values, count) = velocity_sample(estimate);
        // An outlet refuses only another number of values.
        drop(self.velocity.push(&values[..count], stamp_s));
        drop(self.rates.as_mut().map(|rates| rates.push(estimate.rates(), stamp_s)));
    }
}

/// The end of an estimate's bin by the library's clock: the source's time and the two clocks' offset, if only by the first
/// bins' arrival; of a source that was only just begun, and has none, the arrival.
fn stamp_s(estimate: &Estimate, ahead_ns: i64) -> f64 {
    let is_known = estimate.clock_uncertainty_ns != Estimate::CLOCK_UNKNOWN || estimate.clock_offset_ns != 0;
    let monotonic_ns = match is_known {
        true => estimate.source_ns.saturating_add(estimate.clock_offset_ns),
        false => estimate.arrival_ns.cast_signed(),
    };
    monotonic_ns.saturating_add(ahead_ns) as f64 / 1e9
}

/// Components, quality, reasons, number; and how many values that are.
fn velocity_sample(estimate: &Estimate) -> ([f32; VELOCITY_DIMS_MAX + 3], usize) {
    let mut values = [0.0; VELOCITY_DIMS_MAX + 3];
    let dims = estimate.velocity().len();
    values[..dims].copy_from_slice(estimate.velocity());
    values[dims] = f32::from(estimate.quality as u8);
    // Both are whole numbers below 2^24.
    values[dims + 1] = estimate.reasons.0 as f32;
    values[dims + 2] = (estimate.seq % lsl::BIN_MODULO) as f32;
    (values, dims + 3)
}

/// What the streams say of where they come from, for people and for recorders.
fn entries(bundle: &Bundle, engine: &str) -> Vec<(&'static str, String)> {
    let manifest = &bundle.manifest;
    let qualities = Quality::ALL.map(|quality| format!("{} {}", quality as u8, quality.name())).join(", ");
    vec![
        ("manufacturer", "ndtd".to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("bundle", manifest.id.clone()),
        ("engine", engine.to_owned()),
        ("bin_width_ms", manifest.bin_width_ms.to_string()),
        ("time_stamp", "end of the bin".to_owned()),
        ("velocity_offset_ms", (manifest.velocity_offset_ns() as f64 * 1e-6).to_string()),
        ("velocity_lag_ms", manifest.velocity.as_ref().map_or(0.0, |velocity| velocity.lag_ms).to_string()),
        ("quality", qualities),
    ]
}

/// Stays the same when the daemon is started again; another layout is another stream, as another bundle is.
fn source_id(bundle: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("{bundle} {name}").as_bytes());
    let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("ndtd-{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::Reasons;

    #[test]
    fn a_sample_is_stamped_with_the_end_of_its_bin_by_our_clock() {
        let mut estimate = Estimate::zero(1, 2);
        (estimate.source_ns, estimate.arrival_ns) = (5_000_000_000, 90_020_000_000);
        assert_eq!(stamp_s(&estimate, 0), 90.02);
        estimate.clock_offset_ns = 85_010_000_000;
        assert_eq!(stamp_s(&estimate, 0), 90.01);
        (estimate.clock_offset_ns, estimate.clock_uncertainty_ns) = (85_000_000_000, 1_000);
        assert_eq!(stamp_s(&estimate, 0), 90.0);
        assert_eq!(stamp_s(&estimate, -1_000_000_000), 89.0);
    }

    #[test]
    fn a_velocity_carries_its_quality_reasons_and_number() {
        let mut estimate = Estimate::zero(1, 2);
        estimate.velocity_mut().copy_from_slice(&[0.1, -0.2]);
        (estimate.quality, estimate.seq) = (Quality::Stale, (1 << 24) + 7);
        estimate.reasons = Reasons::PEER_GONE.with(Reasons::RENUMBERED);
        let (values, count) = velocity_sample(&estimate);
        assert_eq!(values[..count], [0.1, -0.2, 4.0, 9216.0, 7.0]);
        let rates_only = Estimate::zero(1, 0);
        assert_eq!(velocity_sample(&rates_only).1, 3);
    }

    #[test]
    fn a_source_id_is_the_bundles_and_the_streams() {
        assert_eq!(source_id("b", "x"), source_id("b", "x"));
        assert!(source_id("b", "x") != source_id("c", "x") && source_id("b", "x") != source_id("b", "y"));
        assert_eq!(source_id("b", "x").len(), "ndtd-".len() + 16);
    }
}
