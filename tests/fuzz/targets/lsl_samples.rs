//! The samples of a stream: time stamps of any value on regular streams and on streams of spikes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_daemon::transport::lsl::events::EventBins;
use ndt_daemon::transport::lsl::grid::Grid;
use ndt_protocol::limits::SEQ_MAX;

const WIDTH_S: f64 = 0.02;

fuzz_target!(|input: &[u8]| {
    // 9 bytes a sample: how it comes, and eight bytes that are the time stamp itself or are added to a plausible one.
    let (samples, _) = input.as_chunks::<9>();
    let mut grid = Grid::new(WIDTH_S);
    let mut bins = EventBins::new(WIDTH_S, 0.002, 3);
    let (mut now_s, mut last_place, mut last_bin) = (1000.0, None, None);
    for sample in samples {
        let [how, number @ ..] = *sample;
        let number = f64::from_le_bytes(number);
        let stamp_s = if how & 1 == 0 { number } else { now_s - 500.0 + number };
        now_s += f64::from(how >> 4) * 0.3 * WIDTH_S;
        let place = grid.place(stamp_s, now_s);
        assert!(place.index < SEQ_MAX && last_place.is_none_or(|last| place.index > last));
        last_place = Some(place.index);
        if how & 2 != 0 {
            bins.interrupt();
        }
        bins.push(stamp_s, f32::from(how >> 2 & 3), now_s);
        // One spike closes no more bins than there can be between two sleeps of a source that is alive.
        let mut closed_at_once = 0;
        while let Some(closed) = bins.close(now_s, &mut |counts| assert_eq!(counts.len(), 3)) {
            assert!(closed.index < SEQ_MAX && last_bin.is_none_or(|last| closed.index > last));
            last_bin = Some(closed.index);
            closed_at_once += 1;
            assert!(closed_at_once < 1000, "a flood of bins after the time stamp {stamp_s}");
        }
        assert!(bins.closes_in_s(now_s).is_none_or(|wait_s| wait_s >= 0.0));
    }
});
