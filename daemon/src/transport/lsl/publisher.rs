//! Estimates to streams: rates on one, velocity with its quality on another.
//!
//! **The thread `lsl-out` pushes the samples**, behind a bounded queue. Pushing takes locks of the library, which threads of any
//! priority hold while a receiver comes or goes; neither the publish thread nor ZeroMQ may wait for them. The queue costs this
//! path one more wake-up. Pushing both streams to one receiver each takes 14 us, in one of a hundred bins 130 us, at worst
//! nearly 2 ms (`ndtd bench --transport lsl`, normal priority), which is too much for the publish thread.

use crate::host::realtime::{self, RealtimeSettings};
use crate::output::{DescriptionFrames, Publisher};
use crate::queue::{Queue, Receiver};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use ndt_protocol::bundle::behavior::Component;
use ndt_protocol::bundle::manifest::Readout;
use ndt_protocol::limits::OUTPUTS_MAX;
use ndt_protocol::lsl::{self, Channel, Description, Format, Kind, Library, LslError, Outlet, StreamInfo};
use ndt_protocol::{Bundle, Estimate, Quality};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::warn;

/// Capacity of the buffer of each receiver, in samples: ten seconds of 20 ms bins. A receiver that does not read loses the oldest.
const BUFFER_SAMPLES: usize = 512;

/// Capacity of the queue to `lsl-out`, in estimates: more than a second of 20 ms bins, about a megabyte. When it is full, the
/// oldest estimate is dropped.
const QUEUE_ESTIMATES: usize = 64;

/// Interval between two looks at how many estimates were dropped.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Hands estimates to the thread that pushes them. Owned by the publish thread.
pub struct LslPublisher {
    /// Queue to the thread `lsl-out`; `None` while the publisher is being dropped.
    queue: Option<Queue<Estimate>>,
    /// Estimates that the queue has dropped.
    dropped: Arc<AtomicU64>,
    /// Keeps the thread `lsl-out-log` running; `None` while the publisher is being dropped.
    logging: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl LslPublisher {
    /// Offers the stream `NAME-velocity` and, if the bundle has units, the stream `NAME-rates`, and starts the threads `lsl-out` and
    /// `lsl-out-log`.
    ///
    /// # Errors
    /// [`LslError`] when the library refuses a stream or the system gives no thread.
    pub fn open(
        library: &Library,
        name: &str,
        bundle: &Bundle,
        engine: &str,
        settings: &RealtimeSettings,
    ) -> Result<LslPublisher, LslError> {
        let infos = infos(library, name, bundle, engine)?;
        let (queue, estimates) = Queue::with_places(&Estimate::zero(0, 0), QUEUE_ESTIMATES);
        let (open, opened) = bounded(1);
        let (settings, ahead_ns) = (settings.clone(), library.ahead_of_monotonic_ns());
        let push = move || {
            // The system refuses this thread what it refuses the threads of the pipeline, which report it. The library's
            // sending threads inherit the settings that it grants.
            drop(realtime::enter(&settings));
            let streams = Streams::offer(&infos, ahead_ns);
            let (streams, done) = match streams {
                Ok(streams) => (Some(streams), Ok(())),
                Err(error) => (None, Err(error)),
            };
            drop(open.send(done));
            if let Some(streams) = streams {
                push_all(streams, &estimates);
            }
        };
        let no_thread = |found: String| LslError::Refused { what: "have a thread", found };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            thread.map_err(|error| no_thread(error.to_string()))
        };
        let dropped = Arc::new(AtomicU64::new(0));
        let (logging, end) = bounded(0);
        let mut log = DropLog { dropped: dropped.clone(), logged: 0 };
        let threads = vec![
            spawn("lsl-out", Box::new(push))?,
            spawn("lsl-out-log", Box::new(move || log.write_until(&end)))?,
        ];
        let publisher = LslPublisher { queue: Some(queue), dropped, logging: Some(logging), threads };
        opened.recv().map_err(|_| no_thread("a panic".to_owned()))??;
        Ok(publisher)
    }
}

impl Publisher for LslPublisher {
    /// Hands the estimate to the thread that pushes it. Neither allocates nor blocks; when the thread does not keep up, the
    /// oldest estimate is dropped.
    fn publish(&mut self, estimate: &Estimate) {
        if self.queue.as_ref().is_some_and(|queue| queue.push(estimate.clone())) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// A stream of Lab Streaming Layer is described once, when it is opened.
    fn describe_as(&mut self, _description: &Arc<DescriptionFrames>) {}
}

impl Drop for LslPublisher {
    /// Waits until the pushing thread has pushed the queued estimates, but not for ever.
    fn drop(&mut self) {
        (self.queue, self.logging) = (None, None);
        self.threads.drain(..).for_each(|thread| super::wait_for(Some(thread)));
    }
}

/// Pushes each queued estimate to the streams. Runs on the thread `lsl-out`, which has the real-time settings and must not log, until
/// the publisher is dropped.
fn push_all(mut streams: Streams, estimates: &Receiver<Estimate>) {
    while let Ok(estimate) = estimates.receive(None) {
        streams.push(&estimate);
    }
}

/// Logs how many estimates the queue has dropped, each of them once.
struct DropLog {
    dropped: Arc<AtomicU64>,
    logged: u64,
}

impl DropLog {
    /// Logs once a second, on the thread `lsl-out-log`, until the publisher is dropped.
    fn write_until(&mut self, end: &crossbeam_channel::Receiver<()>) {
        loop {
            let looked = end.recv_timeout(LOOK_EVERY);
            if let Some(sentence) = self.sentence() {
                warn!("{sentence}");
            }
            if looked != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
    }

    fn sentence(&mut self) -> Option<String> {
        let dropped = self.dropped.load(Relaxed);
        let more = dropped - std::mem::replace(&mut self.logged, dropped);
        (more > 0).then(|| {
            format!("expected lsl-out to keep up, found {more} estimates dropped from its full queue")
        })
    }
}

/// Descriptions of the streams of one output: velocity, and rates if the bundle has units.
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
    let published = bundle.manifest.velocity();
    let what = if published.is_some_and(Readout::is_velocity) { "Velocity" } else { "Behavior" };
    let components = published.map(Readout::components).unwrap_or_default();
    let channel = |component: &Component| Channel::new(&component.name, &component.unit, what);
    let mut velocity: Vec<Channel> = components.iter().map(channel).collect();
    velocity.push(Channel::new(lsl::LABEL_QUALITY, "", "Quality"));
    velocity.push(Channel::new(lsl::LABEL_REASONS, "", "Flags"));
    velocity.push(Channel::new(lsl::LABEL_BIN, "", "Index"));
    // The library allows no stream without channels.
    let rates = (!rates.is_empty()).then(|| describe(lsl::rates_name(name), lsl::TYPE_RATES, rates));
    Ok((describe(lsl::velocity_name(name), lsl::TYPE_VELOCITY, velocity)?, rates.transpose()?))
}

/// The streams of one output. Made and owned by the pushing thread.
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

    /// Pushes one estimate to each stream, with the same time stamp. Runs on the pushing thread, once a bin. Must not allocate.
    fn push(&mut self, estimate: &Estimate) {
        let stamp_s = stamp_s(estimate, self.ahead_ns);
        let (values, count) = velocity_sample(estimate);
        // An outlet refuses nothing but a wrong number of values.
        drop(self.velocity.push(&values[..count], stamp_s));
        drop(self.rates.as_mut().map(|rates| rates.push(estimate.rates(), stamp_s)));
    }
}

/// Time stamp of an estimate: the end of its bin by the library's clock, s. It is the source's time plus the offset of the clocks,
/// even if the offset is a first guess. Without any offset, for the first bin of a source, it is the arrival of the bin.
fn stamp_s(estimate: &Estimate, ahead_ns: i64) -> f64 {
    let is_known = estimate.clock_uncertainty_ns != Estimate::CLOCK_UNKNOWN || estimate.clock_offset_ns != 0;
    let monotonic_ns = match is_known {
        true => estimate.source_ns.saturating_add(estimate.clock_offset_ns),
        false => estimate.arrival_ns.cast_signed(),
    };
    monotonic_ns.saturating_add(ahead_ns) as f64 / 1e9
}

/// Values of a velocity sample, and their number: components in the bundle's unit, quality, reasons and bin number.
fn velocity_sample(estimate: &Estimate) -> ([f32; OUTPUTS_MAX + 3], usize) {
    let mut values = [0.0; OUTPUTS_MAX + 3];
    let dims = estimate.outputs().len();
    values[..dims].copy_from_slice(estimate.outputs());
    values[dims] = f32::from(estimate.quality as u8);
    // Reasons and bin number are integers below 2^24, which f32 holds exactly.
    values[dims + 1] = estimate.reasons.0 as f32;
    values[dims + 2] = (estimate.seq % lsl::BIN_MODULO) as f32;
    (values, dims + 3)
}

/// Entries of a stream description that say how its values were computed, for people and for recorders.
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
        ("velocity_lag_ms", manifest.velocity().map_or(0.0, |velocity| velocity.lag_ms).to_string()),
        ("quality", qualities),
    ]
}

/// Source id of a stream. A restarted daemon offers the same id, so that receivers reconnect; another bundle or another name gives
/// another id, because its channels may differ.
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
    fn dropped_estimates_are_counted_and_logged_once() {
        let dropped = Arc::new(AtomicU64::new(0));
        let mut log = DropLog { dropped: dropped.clone(), logged: 0 };
        assert_eq!(log.sentence(), None);
        dropped.fetch_add(3, Relaxed);
        let sentence = "expected lsl-out to keep up, found 3 estimates dropped from its full queue";
        assert_eq!([log.sentence().as_deref(), log.sentence().as_deref()], [Some(sentence), None]);
        // The last ones are logged when the publisher is dropped.
        dropped.fetch_add(1, Relaxed);
        let (logging, end) = bounded(0);
        drop(logging);
        log.write_until(&end);
        assert_eq!(log.logged, 4);
    }

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
