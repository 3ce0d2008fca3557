//! `ndtd.toml`: endpoints, the mode of `ipc://` sockets and every other key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_daemon::config::Config;
use ndt_fuzz::file_of;

fuzz_target!(|bytes: &[u8]| {
    match Config::read(&file_of(bytes)) {
        Ok(config) => assert!(config.check().err().is_none_or(|refused| !refused.to_string().is_empty())),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
