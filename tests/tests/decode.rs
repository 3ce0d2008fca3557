//! `ndtd decode`: a file of trials in, a file of answers out, as Burn answers them; bad input is one sentence, and leaves
//! what was there.

use ndt_daemon::decoder::Decoder;
use ndt_daemon::engine::Engine;
use ndt_daemon::engine::linear::LinearDecoder;
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_daemon::input::deadline::TimeLimits;
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::tensors::{self, Tensors};
use ndt_protocol::{Bin, Bundle};
use ndt_tests::{
    Positions, Shape, manifest, program, python, random_counts, random_weights, weights_only, workspace,
};
use ndt_trainer::evaluation::Reference;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// Built once.
static NDTD: LazyLock<PathBuf> = LazyLock::new(|| program("ndtd"));

const TRIALS: usize = 3;
const BINS: usize = 12;

const fn shape(dims: usize, positions: Positions) -> Shape {
    let architecture =
        Architecture { width: 16, layers: 2, heads: 2, feedforward: 24, window_bins: 6, positions };
    Shape { channels: 7, units: 9, dims, architecture }
}

fn write_bundle(folder: &Path, shape: Shape) -> PathBuf {
    let manifest = manifest(shape);
    let weights = random_weights(&manifest, 1);
    let bundle = ndt_trainer::export::from_weights(manifest, weights, &[0.3; 7]).unwrap();
    let path = folder.join("model.ndt");
    bundle.write(&path).unwrap();
    path
}

fn counts() -> (Vec<usize>, Vec<f32>) {
    (vec![TRIALS, BINS, 7], random_counts(TRIALS * BINS, 7, 2))
}

fn missing() -> (Vec<usize>, Vec<f32>) {
    (vec![TRIALS, BINS], (0..TRIALS * BINS).map(|at| f32::from(at % 11 == 4)).collect())
}

fn decode(bundle: &Path, counts: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(&*NDTD);
    command.arg("decode").arg("--bundle").arg(bundle).arg("--counts").arg(counts);
    command.arg("--out").arg(out).arg("--overwrite").args(more).output().unwrap()
}

fn write(path: &Path, arrays: &Tensors) {
    std::fs::write(path, tensors::to_bytes(arrays)).unwrap();
}

#[test]
fn trials_from_a_file_are_answered_as_burn_does() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("trials.safetensors"), folder.path().join("out.safetensors"));
    let (counts, missing) = (counts(), missing());
    for shape in [shape(2, Positions::LagBias), shape(0, Positions::Learned)] {
        let bundle = write_bundle(folder.path(), shape);
        // Weights of the same seed, for the reference.
        let model = weights_only(shape, 1);
        let reference = Reference::new(&model.manifest, &model.weights);
        for with_missing in [false, true] {
            let mut arrays = Tensors::from([("counts".to_owned(), counts.clone())]);
            let mut flags = vec![0.0; TRIALS * BINS];
            if with_missing {
                arrays.insert("missing".to_owned(), missing.clone());
                flags.clone_from(&missing.1);
            }
            write(&input, &arrays);
            let done = decode(&bundle, &input, &out, &["--json", "--threads", "2"]);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert!(done.stderr.is_empty(), "no progress is told where nobody looks");
            let report: Value = serde_json::from_slice(&done.stdout).unwrap();
            assert_eq!((report["trials"].as_u64(), report["bins"].as_u64()), (Some(3), Some(12)));
            assert!(report["engine"].as_str().unwrap().starts_with("native batch "), "{report}");
            let found = tensors::from_bytes(&std::fs::read(&out).unwrap()).unwrap();
            assert_eq!(found["log_rates"].0, [TRIALS, BINS, shape.units]);
            assert_eq!(found.contains_key("velocity"), shape.dims > 0);
            for (trial, counts) in counts.1.chunks(BINS * shape.channels).enumerate() {
                let (log_rates, velocity) = reference.stream(counts, &flags[trial * BINS..][..BINS]);
                let close = |name: &str, expected: &[f32]| {
                    let found = found.get(name).map_or(&[][..], |(_, values)| values);
                    let mut pairs = found.iter().skip(trial * expected.len()).zip(expected);
                    assert!(pairs.all(|(a, b)| (a - b).abs() <= 1e-4), "{name} of trial {trial}");
                };
                close("log_rates", &log_rates);
                close("velocity", &velocity);
            }
        }
    }
}

#[test]
fn the_output_is_the_same_for_any_number_of_threads_and_python_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = write_bundle(folder.path(), shape(2, Positions::LagBias));
    let (input, out) = (folder.path().join("trials.safetensors"), folder.path().join("out.safetensors"));
    write(&input, &Tensors::from([("counts".to_owned(), counts())]));
    let written = |more: &[&str]| {
        let done = decode(&bundle, &input, &out, more);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(said.starts_with("3 trials of 12 bins in ") && said.lines().count() == 1, "{said}");
        std::fs::read(&out).unwrap()
    };
    let bytes = written(&[]);
    assert!(bytes == written(&["--threads", "1"]) && bytes == written(&["--threads", "5"]));
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 3, "nothing is left beside: {names:?}");

    let log_rates = &tensors::from_bytes(&bytes).unwrap()["log_rates"];
    let script = "import pathlib, sys; from check_onnx import read_safetensors as read\n\
                  arrays = read(pathlib.Path(sys.argv[1])); rates = arrays['log_rates']\n\
                  print(sorted(arrays), *rates.shape, float(rates[2, 11, 8]).hex())";
    let read = Command::new(python())
        .args(["-c", script])
        .arg(&out)
        .env("PYTHONPATH", workspace().join("tests/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&read.stdout);
    let told = said.trim().strip_prefix("['log_rates', 'velocity'] 3 12 9 ");
    let value = told.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&read.stderr)));
    assert_eq!(value, hex(f64::from(*log_rates.1.last().unwrap())));
}

/// As Python writes a double that is no zero: `0x1.` and 13 digits.
fn hex(value: f64) -> String {
    let bits = value.to_bits();
    let sign = if value < 0.0 { "-" } else { "" };
    let exponent = (bits >> 52 & 0x7ff) as i64 - 1023;
    format!("{sign}0x1.{:013x}p{exponent:+}", bits & ((1 << 52) - 1))
}

#[test]
fn bad_input_is_one_sentence_and_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = write_bundle(folder.path(), shape(2, Positions::LagBias));
    let (input, out) = (folder.path().join("trials.safetensors"), folder.path().join("out.safetensors"));
    let there = tensors::to_bytes(&Tensors::from([("velocity".to_owned(), (vec![1], vec![7.0]))]));
    std::fs::write(&out, &there).unwrap();
    let refused = |sentence: &str| {
        let done = decode(&bundle, &input, &out, &[]);
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(said.trim_end(), format!("ndtd: {sentence}"));
        assert!(!done.status.success() && done.stdout.is_empty());
        assert_eq!(std::fs::read(&out).unwrap(), there);
    };
    let with = |change: &dyn Fn(&mut Tensors)| {
        let mut arrays = Tensors::from([("counts".to_owned(), counts()), ("missing".to_owned(), missing())]);
        change(&mut arrays);
        write(&input, &arrays);
    };
    refused(&format!("{}: No such file or directory (os error 2)", input.display()));
    with(&|arrays| _ = arrays.remove("counts"));
    refused("expected an array \"counts\" of [trials, bins, channels], found none");
    with(&|arrays| _ = arrays.insert("mising".to_owned(), missing()));
    refused("expected the arrays \"counts\" and \"missing\", found \"mising\"");
    with(&|arrays| arrays.get_mut("counts").unwrap().0 = vec![TRIALS, 7, BINS]);
    refused("expected \"counts\" of [trials, bins, 7 channels], found [3, 7, 12]");
    with(&|arrays| arrays.get_mut("counts").unwrap().0 = vec![TRIALS * BINS, 7]);
    refused("expected \"counts\" of [trials, bins, 7 channels], found [36, 7]");
    with(&|arrays| arrays.get_mut("missing").unwrap().0 = vec![BINS, TRIALS]);
    refused("expected \"missing\" of [3 trials, 12 bins], found [12, 3]");
    for (value, found) in [(-1.0, "-1"), (f32::INFINITY, "inf"), (51.0, "51")] {
        with(&|arrays| arrays.get_mut("counts").unwrap().1[(BINS + 2) * 7 + 3] = value);
        refused(&format!(
            "expected counts from 0 to 50, or NaN for none, found {found} in trial 1, bin 2, channel 3"
        ));
    }
    with(&|arrays| arrays.get_mut("missing").unwrap().1[2 * BINS + 5] = 0.5);
    refused("expected 0 or 1 for each bin in \"missing\", found 0.5 in trial 2, bin 5");
    std::fs::write(&input, "no tensors").unwrap();
    let done = decode(&bundle, &input, &out, &[]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("trials.safetensors: expected a safetensors file, found "), "{said}");
    let nowhere = folder.path().join("no-such-folder");
    let done = decode(&bundle, &input, &nowhere.join("out.safetensors"), &[]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.ends_with(&format!(", found no folder {}\n", nowhere.display())), "{said}");
    // A bin that never came has no counts to be checked.
    with(&|arrays| arrays.get_mut("counts").unwrap().1[4 * 7] = -1.0);
    assert!(decode(&bundle, &input, &out, &[]).status.success());
}

/// Rates and velocity that the daemon's decoder gives for trials with these counts, each a segment.
fn as_the_daemon(bundle: &Bundle, engine: Box<dyn Engine>, counts: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut decoder = Decoder::new(bundle, engine, &[], TimeLimits::deadline(20_000_000));
    let (mut rates, mut velocity) = (Vec::new(), Vec::new());
    for (row, counts) in counts.chunks_exact(bundle.manifest.channels()).enumerate() {
        let mut bin = Bin::empty();
        (bin.seq, bin.stream) = (row as u64, 1);
        bin.source_ns = 20_000_000 * row as i64;
        bin.segment_start = row % BINS == 0;
        bin.fill(counts.iter().copied(), bundle.manifest.count_range());
        decoder.decode(&bin, 0, 0, &mut |estimate| {
            rates.extend_from_slice(estimate.rates());
            velocity.extend_from_slice(estimate.velocity());
        });
    }
    (rates, velocity)
}

#[test]
fn a_count_that_is_nan_masks_its_channel_as_in_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("trials.safetensors"), folder.path().join("out.safetensors"));
    let mut counts = counts();
    for at in (0..counts.1.len()).filter(|at| at % 5 == 3) {
        counts.1[at] = f32::NAN;
    }
    // A bin without any count.
    counts.1[(BINS + 3) * 7..][..7].fill(f32::NAN);
    let masked = counts.1.iter().filter(|count| count.is_nan()).count() - 7;
    write(&input, &Tensors::from([("counts".to_owned(), counts.clone())]));
    let transformer = write_bundle(folder.path(), shape(2, Positions::LagBias));
    let linear = folder.path().join("linear.ndt");
    ndt_tests::linear(7, 2, 4, 5).write(&linear).unwrap();
    for path in [transformer, linear] {
        let done = decode(&path, &input, &out, &["--json"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((&report["missing-bins"], &report["masked-counts"]), (&1.into(), &masked.into()));
        let bundle = Bundle::read(&path).unwrap();
        let engine: Box<dyn Engine> = match LinearDecoder::new(&bundle) {
            Some(linear) => Box::new(linear),
            None => Box::new(Native::with(&bundle, InstructionSet::best(), Precision::F32)),
        };
        let (rates, velocity) = as_the_daemon(&bundle, engine, &counts.1);
        let found = tensors::from_bytes(&std::fs::read(&out).unwrap()).unwrap();
        let of = |name: &str| found.get(name).map_or(&[][..], |(_, values)| values.as_slice());
        let close = |found: Vec<f32>, expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
            assert!(worst.fold(0.0, f32::max) <= 1e-4, "{}", path.display());
        };
        close(of("log_rates").iter().map(|rate| rate.exp()).collect(), &rates);
        close(of("velocity").to_vec(), &velocity);
    }
}
