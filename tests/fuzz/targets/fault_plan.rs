//! A fault plan in a file, which programs read that check the daemon's answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_fuzz::file_of;
use ndt_replay::play::faults::FaultPlan;

fuzz_target!(|bytes: &[u8]| {
    match FaultPlan::read(&file_of(bytes)) {
        Ok(plan) => {
            let again = FaultPlan::read(&file_of(plan.text().as_bytes()));
            assert_eq!(again.unwrap_or_else(|refused| panic!("{refused}")), plan);
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
