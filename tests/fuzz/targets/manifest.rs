//! The manifest of a bundle: its text, and every number in it that sizes something else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_protocol::bundle::origin::Origin;
use ndt_protocol::bundle::tensors::Tensors;
use ndt_protocol::{Bundle, Manifest};

fuzz_target!(|text: &str| {
    // The digest, which refuses every changed manifest, is left out: whoever makes a bundle can compute it.
    let Ok(manifest) = toml_of(text) else { return };
    let (weights, golden) = (Tensors::new(), Tensors::new());
    let (step_onnx, window_onnx, origin) = (Vec::new(), Vec::new(), Origin::default());
    let bundle = Bundle { manifest, weights, golden, step_onnx, window_onnx, origin };
    // Without weights, every bundle of an accepted manifest is refused for them.
    let refused = bundle.check().unwrap_err();
    assert!(!refused.to_string().is_empty());
    if bundle.manifest.problems().is_empty() {
        let manifest = &bundle.manifest;
        assert!(manifest.bin_width_us() > 0 && manifest.velocity_columns().end <= manifest.readout_dims());
        drop((
            manifest.reach_bins(),
            manifest.velocity_offset_ns(),
            bundle.description().to_string(),
            bundle.id(),
        ));
        drop(bundle.reading(20.0));
    }
});

fn toml_of(text: &str) -> Result<Manifest, toml::de::Error> {
    toml::from_str(text)
}
