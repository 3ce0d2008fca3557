//! The message of an estimate.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_fuzz::{borrowed, frames};
use ndt_protocol::{Estimate, wire};

fuzz_target!(|input: &[u8]| {
    let genuine = wire::estimate_header(&Estimate::zero(0, 0));
    let Some(frames) = frames(input, wire::TOPIC_ESTIMATE, &genuine) else { return };
    let frames = borrowed(&frames);
    match wire::read_estimate(&frames) {
        Ok(estimate) => {
            // What was accepted is written and read again without a change; NaN is no number, so that bytes are compared.
            let header = wire::estimate_header(&estimate);
            let payloads = |estimate: &Estimate| {
                let (mut rates, mut outputs) = (Vec::new(), Vec::new());
                wire::put_f32(estimate.rates(), &mut rates);
                wire::put_f32(estimate.outputs(), &mut outputs);
                (rates, outputs)
            };
            let (rates, outputs) = payloads(&estimate);
            let again = wire::read_estimate(&[wire::TOPIC_ESTIMATE, &header, &rates, &outputs]);
            let again = again.unwrap_or_else(|refused| panic!("{refused}"));
            assert_eq!(wire::estimate_header(&again), header);
            assert_eq!(payloads(&again), (rates, outputs));
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
