//! The description of a stream: labels that are matched with the model's channels. The XML itself is read by liblsl.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_daemon::transport::lsl::labels::{Allowed, Layout};

const IDS: [i64; 5] = [3, -1, 100, i64::MAX, 0];

fuzz_target!(|text: &str| {
    let labels: Vec<String> = text.split('\n').map(str::to_owned).collect();
    for allowed in [false, true].map(|unknown| Allowed { unknown, unlabelled: unknown }) {
        for channels in [0, labels.len(), usize::MAX] {
            match Layout::new(&labels, channels, &IDS, allowed) {
                Ok(layout) => {
                    // A sample that is shorter than the description says.
                    let sample = vec![1.0; labels.len().saturating_sub(1)];
                    assert_eq!(layout.counts(&sample).count(), IDS.len());
                    drop((layout.starts_segment(&sample), layout.remarks()));
                }
                Err(refused) => assert!(!refused.to_string().is_empty()),
            }
        }
    }
});
