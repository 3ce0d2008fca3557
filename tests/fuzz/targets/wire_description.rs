//! The message of a description: what a stream consists of, in JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_protocol::wire::{self, Description};

fuzz_target!(|input: &[u8]| {
    let genuine = Description::Bins { bin_width_us: 1, channel_ids: Vec::new() };
    let (header, _) = wire::description_frames(9, &genuine);
    match wire::read_description(&[wire::TOPIC_DESCRIPTION, &header, input]) {
        Ok((stream, Some(description))) => {
            let (header, json) = wire::description_frames(stream, &description);
            let again = wire::read_description(&[wire::TOPIC_DESCRIPTION, &header, &json]);
            assert_eq!(again, Ok((9, Some(description))));
        }
        Ok((stream, None)) => assert_eq!(stream, 9),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
    // The header is short: all of it is the fuzzer's here.
    let (header, json) = input.split_at(input.len().min(header.len()));
    let frames = [wire::TOPIC_DESCRIPTION, header, json];
    let stream = wire::read_description(&frames).map(|(stream, _)| stream);
    assert!(stream.is_err() || stream == wire::described_stream(&frames));
});
