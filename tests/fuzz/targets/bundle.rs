//! A bundle in one file: an archive of files, each with its digest in the manifest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_fuzz::file_of;
use ndt_protocol::Bundle;

fuzz_target!(|bytes: &[u8]| {
    match Bundle::read(&file_of(bytes)) {
        Ok(bundle) => assert!(bundle.check().is_ok()),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
