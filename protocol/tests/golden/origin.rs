//! The origin of the golden bundles.

use ndt_protocol::bundle::origin::{CurvePoint, DecoderScore, FitRecord, Origin, RecordingSplits};

fn decoder(name: &str, r2: Option<f64>, failed: Option<&str>) -> DecoderScore {
    DecoderScore {
        decoder: name.into(),
        history_bins: Some(5),
        chosen: "penalty 10".into(),
        validation_r2: r2,
        test_r2: r2,
        seconds: 0.5,
        failed: failed.map(Into::into),
    }
}

/// The origin of a model of one recording, with every key that it may have.
pub fn origin() -> Origin {
    let curve = |epoch, bits_per_spike| CurvePoint {
        generation: 0,
        epoch,
        loss: 0.5,
        bits_per_spike,
        velocity_r2: bits_per_spike,
    };
    let splits = RecordingSplits {
        identifier: "session 1".into(),
        train: vec![0, 2],
        val: vec![1],
        test: vec![3],
        train_pieces_s: vec![[0.0, 1.0]],
        val_pieces_s: vec![[1.0, 2.5]],
        ..RecordingSplits::default()
    };
    let record = FitRecord {
        command: vec!["ndt-train".into(), "fit".into()],
        program: "a test".into(),
        machine: "no machine".into(),
        ended_unix_s: 1_000_000_000,
        seconds: 2.5,
        curve: vec![curve(1, None), curve(2, Some(0.125))],
        comparison: vec![
            decoder("transformer", Some(0.75), None),
            decoder("Wiener 5 bins", None, Some("no solution")),
        ],
    };
    Origin { config: "[model]\nwidth = 4\n".into(), splits: vec![splits], record: Some(record) }
}
