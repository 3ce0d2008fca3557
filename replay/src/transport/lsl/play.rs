//! Plays a plan as a stream of counts, and the recording's behaviour as a second stream.

use super::StreamError;
use crate::play::{Pace, Plan, PlayReport, Progress, Speed};
use crate::session::Series;
use crate::transport::wait_until_due;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::lsl::{
    Channel, Description, Format, Kind, LABEL_SEGMENT_START, Library, LslError, Outlet, StreamInfo,
    TYPE_BEHAVIOR, TYPE_COUNTS, behavior_name,
};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Number of samples that wait for a receiver that does not read; beyond it, the receiver loses the oldest ones.
const BUFFER_SAMPLES: usize = 4096;

/// Pause after a receiver has connected: it discards everything that arrives before it has finished opening the stream.
const SETTLE: Duration = Duration::from_millis(500);

/// Pause after the last sample: the library does not say when its samples are sent, and drops unsent ones with the outlet.
const LINGER: Duration = Duration::from_millis(500);

/// Streams that a player offers.
pub struct Streams<'a> {
    /// Name of the stream of counts. The stream of behaviour is called `NAME-behavior`.
    pub name: &'a str,
    /// Identifier of the recording.
    pub recording: &'a str,
    /// Behaviour to send, if any.
    pub behavior: Option<&'a Series>,
    /// Longest wait for a receiver of each stream.
    pub wait: Duration,
}

/// Sends a plan in real time, as [`zeromq::play`](crate::transport::zeromq::play) does, to all receivers of the stream. First
/// waits until each stream has a receiver. Blocks until everything is sent.
///
/// Each bin is stamped with the instant of its end by the clock of this computer, because stamps in a stream are those of a
/// clock; the times of the recording are not sent.
///
/// # Errors
/// [`StreamError`] if a stream has no receiver in time, or the library fails.
pub fn play(
    plan: &Plan,
    library: &Library,
    streams: &Streams<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PlayReport, StreamError> {
    let counts = offer_counts(plan, library, streams)?;
    let behavior = streams.behavior.map(|series| offer_behavior(series, library, streams)).transpose()?;
    let channels = plan.channel_ids().len();
    wait_for_receiver(&counts, streams.name, streams.wait)?;
    if let Some(behavior) = &behavior {
        wait_for_receiver(behavior, &behavior_name(streams.name), streams.wait)?;
    }
    std::thread::sleep(SETTLE);
    let ahead_ns = library.ahead_of_monotonic_ns();
    let stamp_s = |monotonic_ns: i64| (monotonic_ns + ahead_ns) as f64 / 1e9;
    let (start_ns, width_ns) = (monotonic_ns(), plan.bin_width_ns());
    let mut pace = Pace::new(start_ns, Speed::Times(1.0));
    let mut segment = 0;
    let mut sample = vec![0.0; channels + 1];
    for seq in 0..plan.bins() {
        let played_ns = (seq as u64 + 1) * width_ns;
        let due_ns = start_ns + played_ns;
        wait_until_due(&mut pace, played_ns);
        let (stamp, planned) = plan.bin(seq);
        sample[..channels].copy_from_slice(planned);
        sample[channels] = f32::from(u8::from(stamp.segment_start));
        counts.push(&sample, stamp_s(due_ns.cast_signed()))?;
        if let (Some(outlet), Some(series)) = (&behavior, streams.behavior) {
            // Offset from the time of the recording to the time of this play.
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
    Ok(PlayReport {
        bins: plan.bins(),
        dropped: 0,
        segments: segment,
        channels,
        seconds,
        late_us_max: pace.late_us_max(),
    })
}

fn wait_for_receiver(outlet: &Outlet, name: &str, wait: Duration) -> Result<(), StreamError> {
    match outlet.wait_for_receiver(wait.as_secs_f64()) {
        true => Ok(()),
        false => Err(StreamError::NoReceiver { name: name.to_owned(), wait }),
    }
}

/// Sends the samples of the recording in `[from_s, to_s)`.
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

fn offer_counts(plan: &Plan, library: &Library, streams: &Streams<'_>) -> Result<Outlet, LslError> {
    let mut channels: Vec<Channel> =
        plan.channel_ids().iter().map(|id| Channel::new(id, "spikes", "Count")).collect();
    channels.push(Channel::new(LABEL_SEGMENT_START, "", "Event"));
    let rate_hz = 1e9 / plan.bin_width_ns() as f64;
    offer(
        library,
        streams,
        streams.name,
        TYPE_COUNTS,
        rate_hz,
        channels,
        [
            ("bin_width_ms", (plan.bin_width_ns() as f64 * 1e-6).to_string()),
            ("time_stamp", "end of the bin".to_owned()),
        ],
    )
}

fn offer_behavior(series: &Series, library: &Library, streams: &Streams<'_>) -> Result<Outlet, LslError> {
    let axis =
        |dim: usize| ["x", "y", "z"].get(dim).map_or_else(|| dim.to_string(), |axis| (*axis).to_owned());
    let kind = match series.unit.as_str() {
        "m/s" => "Velocity",
        "m" => "Position",
        _ => "Misc",
    };
    let channel = |dim| Channel::new(format!("{}_{}", series.name, axis(dim)), &series.unit, kind);
    let channels = (0..series.dims).map(channel).collect();
    let name = behavior_name(streams.name);
    offer(
        library,
        streams,
        &name,
        TYPE_BEHAVIOR,
        rate_hz(&series.timestamps),
        channels,
        [("series", series.name.clone()), ("time_stamp", "instant of the sample".to_owned())],
    )
}

fn offer(
    library: &Library,
    streams: &Streams<'_>,
    name: &str,
    content_type: &str,
    rate_hz: f64,
    channels: Vec<Channel>,
    about: [(&'static str, String); 2],
) -> Result<Outlet, LslError> {
    let source_id = source_id(name, streams.recording, &channels);
    let mut entries = vec![
        ("manufacturer", "ndt-replay".to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("recording", streams.recording.to_owned()),
    ];
    entries.extend(about);
    let kind = Kind { name, content_type, rate_hz, format: Format::Float32, source_id: &source_id };
    let info = StreamInfo::new(library, &kind, &Description { channels, entries })?;
    Outlet::new(&info, BUFFER_SAMPLES)
}

/// Nominal rate of samples at these instants, in Hz; 0 if they have none, as for events.
fn rate_hz(timestamps: &[f64]) -> f64 {
    let mut steps: Vec<f64> = timestamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_by(f64::total_cmp);
    match steps.get(steps.len() / 2) {
        // Time stamps are rounded, rates are round numbers.
        Some(step) if *step > 0.0 => (1e3 / step).round() / 1e3,
        _ => 0.0,
    }
}

/// Identity of a stream: the same for the same recording and channels, so that a receiver finds the stream again.
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
