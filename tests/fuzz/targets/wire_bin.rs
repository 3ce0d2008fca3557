//! The message of a bin: read into a bin of the model's channels, and split by programs that do not know the model.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_fuzz::{borrowed, frames};
use ndt_protocol::limits::SEQ_MAX;
use ndt_protocol::wire::{self, BinStamp};
use ndt_protocol::{Bin, CountRange};

const CHANNELS: usize = 5;

fuzz_target!(|input: &[u8]| {
    let genuine = wire::bin_header(&BinStamp::default(), CHANNELS);
    let Some(frames) = frames(input, wire::TOPIC_BIN, &genuine) else { return };
    let frames = borrowed(&frames);
    if let Ok((stamp, channels, payload)) = wire::split_bin(&frames) {
        assert!(stamp.seq <= SEQ_MAX && payload.len() == 4 * channels);
    }
    let mut bin = Bin::empty();
    let range = CountRange::new(20, 20.0);
    match wire::read_bin(&frames, CHANNELS, range, 7, &mut bin) {
        Ok(stamp) => {
            assert!(bin.seq == stamp.seq && bin.arrival_ns == 7);
            // What was accepted is written and read again without a change.
            let header = wire::bin_header(&stamp, CHANNELS);
            let again = wire::split_bin(&[wire::TOPIC_BIN, &header, frames[2]]);
            assert_eq!(again.map(|(stamp, ..)| stamp), Ok(stamp));
        }
        Err(refused) => assert!(!refused.to_string().is_empty() && bin.seq == 0),
    }
});
