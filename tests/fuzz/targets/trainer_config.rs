//! The trainer's configuration. Its module is compiled by itself: it needs nothing of the trainer, which would bring Burn.
#![no_main]

use config::{Config, ConfigFile};
use libfuzzer_sys::fuzz_target;
use ndt_fuzz::file_of;

#[expect(dead_code, unused_imports, reason = "the rest of the trainer uses what is not used here")]
#[path = "../../../trainer/src"]
mod trainer {
    pub mod config;
}
use trainer::config;

fuzz_target!(|bytes: &[u8]| {
    match ConfigFile::read(&file_of(bytes)) {
        Ok(file) => {
            let over = file.over(&Config::default());
            let config = over.unwrap_or_else(|refused| panic!("read, and then refused: {refused}"));
            assert!(config.check().err().is_none_or(|refused| !refused.to_string().is_empty()));
            assert!(!file.sets("no.such.key"));
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
