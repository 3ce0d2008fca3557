//! The unit of a recorded series of behaviour, which files write in many ways.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_replay::nwb::si;

fuzz_target!(|text: &str| {
    let (unit, factor) = si(text);
    assert!(factor > 0.0 && factor <= 1.0);
    assert!(factor == 1.0 || unit != text);
    // What is in SI units already stays as it is.
    if unit != text {
        assert_eq!(si(&unit), (unit.clone(), 1.0));
    }
});
