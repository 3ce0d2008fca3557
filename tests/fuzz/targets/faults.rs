//! The text of `ndt-replay play --faults`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_replay::play::faults::Faults;

fuzz_target!(|text: &str| {
    match text.parse::<Faults>() {
        Ok(faults) => assert_eq!(faults.to_string().parse::<Faults>().as_ref(), Ok(&faults)),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
