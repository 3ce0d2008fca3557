//! A plan as a stream of counts, and the recording's behaviour beside it.

use super::StreamError;
use crate::play::{Plan, Progress, Report};
use crate::session::Series;
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::lsl::{
    Channel, Description, Format, Kind, LABEL_SEGMENT_START, Library, LslError, Outlet, StreamInfo,
    TYPE_BEHAVIOR, TYPE_COUNTS, behavior_name,
};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Samples that wait for a receiver that does not read; then it loses the oldest.
const BUFFER_SAMPLES: usize = 4096;

/// A receiver is there before it is ready: what waits for it when it begins, it throws away.
const SETTLE: Duration = Duration::from_millis(500);

/// The library does not tell when its last samples are out, and drops what is not with the outlet.
const LINGER: Duration = Duration::from_millis(500);

/// Which streams are offered, and until when somebody must receive them.
pub struct Sending<'a> {
    /// Name of the stream of counts; behaviour is `NAME-behavior`.
    pub name: &'a str,
    /// The recording's identifier.
    pub recording: &'a str,
    /// Behaviour that is sent, too.
    pub behavior: Option<&'a Series>,
    /// How long to wait for receivers.
    pub wait: Duration,
}

/// Sends a plan in real time, as [`crate::play::run`] does, to whoever receives the stream. Each bin is stamped with the
/// instant of its end, by this computer's clock: a stream's stamps are a clock's, so that the recording's own times are
/// not sent. Waits until there is a receiver of each stream. Blocks until all is sent.
///
/// # Errors
/// [`StreamError`] when nobody receives in time, or the library cannot.
pub fn send(
    plan: &Plan,
    library: &Library,
    sending: &Sending<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, StreamError> {
    let counts = offer_counts(plan, library, sending)?;
    let behavior = sending.behavior.map(|series| offer_behavior(series, library, sending)).transpose()?;
    let channels = plan.channel_ids().len();
    wait_for_receiver(&counts, sending.name, sending.wait)?;
    if let Some(behavior) = &behavior {
        wait_for_receiver(behavior, &behavior_name(sending.name), sending.wait)?;
    }
    std::thread::sleep(SETTLE);
    let ahead_ns = library.ahead_of_monotonic_ns();
    let stamp_s = |monotonic_ns: i64| (monotonic_ns + ahead_ns) as f64 / 1e9;
    let (start_ns, width_ns) = (monotonic_ns(), plan.bin_width_ns());
    let (mut late_ns_max, mut segment) = (0, 0);
    let mut sample = vec![0.0; channels + 1];
    for seq in 0..plan.bins() {
        let due_ns = start_ns + (seq as u64 + 1) * width_ns;
        sleep_until_ns(due_ns);
        late_ns_max = late_ns_max.max(monotonic_ns().saturating_sub(due_ns));
        let (stamp, planned) = plan.bin(seq);
        sample[..channels].copy_from_slice(planned);
        sample[channels] = f32::from(u8::from(stamp.segment_start));
        counts.push(&sample, stamp_s(due_ns.cast_signed()))?;
        if let (Some(outlet), Some(series)) = (&behavior, sending.behavior) {
            // From the recording's time to this play's.
            let shift_ns = due_ns.cast_signed() - stamp.source_ns;
            let from_s = (stamp.source_ns - width_ns.cast_signed()) as f64 / 1e9;
            push_behavior(outlet, series, from_s, stamp.source_ns as f64 / 1e9, &|time_s| {
                stamp_s((time_s * 1e9).round() as i64 + shift_ns)
            })?;
        }
        segment += usize::from(stamp.segment_start);
        progress(Progress { sent: seq + 1, bins: plan.bins(), segment });
    }
    let seconds = (monotonic_ns() - start_ns) as f64 * 1e-9;
    std::thread::sleep(LINGER);
    Ok(Report {
        bins: plan.bins(),
        dropped: 0,
        segments: segment,
        channels,
        seconds,
        late_us_max: Some(late_ns_max / 1_000),
    })
}

fn wait_for_receiver(outlet: &Outlet, name: &str, wait: Duration) -> Result<(), StreamError> {
    match outlet.wait_for_receiver(wait.as_secs_f64()) {
        true => Ok(()),
        false => Err(StreamError::NoReceiver { name: name.to_owned(), wait }),
    }
}

/// Sends the samples in `[from_s, to_s)` of the recording.
fn push_behavior(
    outlet: &Outlet,
    series: &Series,
    from_s: f64,
    to_s: f64,
    stamp_s: &dyn Fn(f64) -> f64,
) -> Result<(), LslError> {
    let first = series.timestamps.partition_point(|time_s| *time_s < from_s);
    let mut sample = vec![0.0; series.dims];
    for (row, time_s) in series.timestamps.iter().enumerate().skip(first) {
        if *time_s >= to_s {
            break;
        }
        let values = &series.data[row * series.dims..][..series.dims];
        sample.iter_mut().zip(values).for_each(|(value, recorded)| *value = *recorded as f32);
        outlet.push(&sample, stamp_s(*time_s))?;
    }
    Ok(())
}

fn offer_counts(plan: &Plan, library: &Library, sending: &Sending<'_>) -> Result<Outlet, LslError> {
    let mut channels: Vec<Channel> =
        plan.channel_ids().iter().map(|id| Channel::new(id, "spikes", "Count")).collect();
    channels.push(Channel::new(LABEL_SEGMENT_START, "", "Event"));
    let rate_hz = 1e9 / plan.bin_width_ns() as f64;
    offer(
        library,
        sending,
        sending.name,
        TYPE_COUNTS,
        rate_hz,
        channels,
        [
            ("bin_width_ms", (plan.bin_width_ns() as f64 * 1e-6).to_string()),
            ("time_stamp", "end of the bin".to_owned()),
        ],
    )
}

fn offer_behavior(series: &Series, library: &Library, sending: &Sending<'_>) -> Result<Outlet, LslError> {
    let axis =
        |dim: usize| ["x", "y", "z"].get(dim).map_or_else(|| dim.to_string(), |axis| (*axis).to_owned());
    let kind = match series.unit.as_str() {
        "m/s" => "Velocity",
        "m" => "Position",
        _ => "Misc",
    };
    let channel = |dim| Channel::new(format!("{}_{}", series.name, axis(dim)), &series.unit, kind);
    let channels = (0..series.dims).map(channel).collect();
    let name = behavior_name(sending.name);
    offer(
        library,
        sending,
        &name,
        TYPE_BEHAVIOR,
        rate_hz(&series.timestamps),
        channels,
        [("series", series.name.clone()), ("time_stamp", "instant of the sample".to_owned())],
    )
}

fn offer(
    library: &Library,
    sending: &Sending<'_>,
    name: &str,
    content_type: &str,
    rate_hz: f64,
    channels: Vec<Channel>,
    about: [(&'static str, String); 2],
) -> Result<Outlet, LslError> {
    let source_id = source_id(name, sending.recording, &channels);
    let mut entries = vec![
        ("manufacturer", "ndt-replay".to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("recording", sending.recording.to_owned()),
    ];
    entries.extend(about);
    let kind = Kind { name, content_type, rate_hz, format: Format::Float32, source_id: &source_id };
    let info = StreamInfo::new(library, &kind, &Description { channels, entries })?;
    Outlet::new(&info, BUFFER_SAMPLES)
}

/// The usual rate of some instants; 0 where there is none, as for events.
fn rate_hz(timestamps: &[f64]) -> f64 {
    let mut steps: Vec<f64> = timestamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_by(f64::total_cmp);
    match steps.get(steps.len() / 2) {
        // Stamps are rounded; rates are round.
        Some(step) if *step > 0.0 => (1e3 / step).round() / 1e3,
        _ => 0.0,
    }
}

/// The same for the same recording and channels, so that a receiver finds the stream again.
fn source_id(name: &str, recording: &str, channels: &[Channel]) -> String {
    let labels: Vec<&str> = channels.iter().map(|channel| channel.label.as_str()).collect();
    let digest = Sha256::digest(format!("{name} {recording} {}", labels.join(",")).as_bytes());
    let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("ndt-replay-{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_rate_is_the_median_one() {
        let times = |hz: f64| (0..100).map(|at| 7.0 + f64::from(at) / hz).collect::<Vec<_>>();
        assert_eq!(rate_hz(&times(1000.0)), 1000.0);
        let mut holed = times(50.0);
        holed.iter_mut().skip(60).for_each(|time| *time += 3.0);
        assert_eq!(rate_hz(&holed), 50.0);
        assert_eq!((rate_hz(&[]), rate_hz(&[1.0, 1.0])), (0.0, 0.0));
    }
}
