//! Bundles: what was written is read, and a bundle that is damaged, newer or inconsistent is refused with a sentence.

#[path = "golden/check.rs"]
mod golden;
#[path = "golden/origin.rs"]
mod origin;

use ndt_protocol::bundle::manifest::{
    Architecture, FORMAT_VERSION, FORMAT_VERSION_MIN, Linear, Manifest, Positions, Readout, Training,
};
use ndt_protocol::bundle::origin::{CurvePoint, Origin};
use ndt_protocol::bundle::precision::{Loss, Precision, ValidationLoss};
use ndt_protocol::bundle::tensors::Tensors;
use ndt_protocol::bundle::{Bundle, BundleError};
use std::collections::BTreeMap;
use std::path::Path;

fn readout(dims: usize, unit: &str, lag_ms: f64, series: &str) -> Readout {
    Readout { dims, unit: unit.into(), lag_ms, series: series.into() }
}

fn bundle(positions: Positions) -> Bundle {
    let validation = ValidationLoss {
        log_rates_rms: 0.25,
        log_rates_max: 1.5,
        bits_per_spike: -0.5,
        velocity_r2: Some(0.125),
    };
    let loss = Loss { golden_log_rates: 0.5, golden_velocity: 0.25, validation: Some(validation) };
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        id: String::new(),
        bin_width_ms: 20.0,
        warmup_bins: 5,
        max_gap_bins: 10,
        count_max: 50,
        channel_ids: vec![3, 1, 4],
        unit_ids: vec![3, 1, 4, 159],
        architecture: Architecture {
            width: 4,
            layers: 2,
            heads: 2,
            feedforward: 6,
            window_bins: 3,
            positions,
        },
        linear: None,
        readouts: vec![readout(2, "m/s", 0.0, "hand_vel")],
        published: 0,
        training: Training {
            by: "a test".into(),
            data: vec!["session.nwb".into()],
            data_sha256: "0".repeat(64),
            seed: 1,
            epochs: 2,
            parent: None,
        },
        scores: BTreeMap::from([("co-bps".to_owned(), 0.125)]),
        precisions: BTreeMap::from([(Precision::Int8, loss)]),
        files: BTreeMap::new(),
    };
    let array = |(name, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(|i: usize| i as f32 * 0.5).collect();
        (name, (shape, values))
    };
    let weights: Tensors = manifest.weight_shapes().into_iter().map(array).collect();
    let golden =
        [("counts", vec![6, 3]), ("missing", vec![6]), ("log_rates", vec![6, 4]), ("readouts", vec![6, 2])];
    let golden = golden.into_iter().map(|(name, shape)| array((name.to_owned(), shape))).collect();
    Bundle {
        manifest,
        weights,
        step_onnx: vec![1, 2, 3],
        window_onnx: vec![4, 5],
        golden,
        origin: origin::origin(),
    }
}

/// A linear decoder of 4 bins: no rates, no graphs.
fn linear() -> Bundle {
    let mut bundle = bundle(Positions::LagBias);
    bundle.manifest.architecture = Architecture::NONE;
    bundle.manifest.linear = Some(Linear { window_bins: 4 });
    bundle.manifest.unit_ids = Vec::new();
    bundle.weights = Tensors::from([
        ("linear.weight".to_owned(), (vec![4, 3, 2], (0..24).map(|at| at as f32 * 0.01).collect())),
        ("linear.bias".to_owned(), (vec![2], vec![0.5, -0.5])),
        ("missing".to_owned(), (vec![3], vec![1.0, 2.0, 0.25])),
    ]);
    bundle.golden.remove("log_rates");
    (bundle.step_onnx, bundle.window_onnx) = (Vec::new(), Vec::new());
    bundle.origin = Origin::default();
    bundle
}

/// A model that was adapted from another one, with a position and two velocities, of which the last one is published.
fn several_readouts() -> Bundle {
    let mut bundle = bundle(Positions::Learned);
    bundle.manifest.readouts = vec![
        readout(2, "m/s", 0.0, "hand_vel"),
        readout(2, "m", 0.0, "hand_pos"),
        readout(2, "m/s", 100.0, "hand_vel"),
    ];
    bundle.manifest.published = 2;
    bundle.manifest.training.parent = Some("1".repeat(64));
    let array = |(name, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(|at: usize| at as f32 * -0.25).collect();
        (name, (shape, values))
    };
    bundle.weights = bundle.manifest.weight_shapes().into_iter().map(array).collect();
    bundle.golden.extend([array(("readouts".to_owned(), vec![6, 6]))]);
    bundle
}

fn refusal(path: &Path) -> String {
    Bundle::read(path).unwrap_err().to_string()
}

#[test]
fn folders_and_tars_come_back_and_their_id_is_their_content() {
    let folder = tempfile::tempdir().unwrap();
    for positions in [Positions::LagBias, Positions::Learned] {
        let mut ids = Vec::new();
        for name in ["model", "model.ndt", "again"] {
            let path = folder.path().join(name);
            let manifest = bundle(positions).write(&path).unwrap();
            let read = Bundle::read(&path).unwrap();
            assert_eq!(read.manifest, manifest);
            assert_eq!(
                (&read.weights, &read.golden),
                (&bundle(positions).weights, &bundle(positions).golden)
            );
            assert_eq!(
                read.id()[..2],
                [0, 1].map(|i| u8::from_str_radix(&manifest.id[2 * i..][..2], 16).unwrap())
            );
            ids.push(manifest.id);
        }
        assert!(ids.iter().all(|id| id == &ids[0] && id.len() == 64));
        let mut other = bundle(positions);
        other.step_onnx.push(0);
        assert_ne!(other.write(&folder.path().join("other")).unwrap().id, ids[0]);
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "nothing half-written is left: {left:?}");
}

/// Every kind of bundle, with every key that a manifest may have.
fn golden_bundles() -> [(&'static str, Bundle); 3] {
    [
        ("bundle", bundle(Positions::LagBias)),
        ("bundle-linear", linear()),
        ("bundle-readouts", several_readouts()),
    ]
}

#[test]
fn bundles_have_the_golden_bytes_and_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bundle) in golden_bundles() {
        let path = folder.path().join("model.ndt");
        let manifest = bundle.write(&path).unwrap();
        golden::check(&format!("{name}-v{FORMAT_VERSION}.ndt"), &std::fs::read(&path).unwrap());
        assert_eq!(Bundle::read(&path).unwrap(), Bundle { manifest, ..bundle.clone() });
        // The oldest version that is read means what it meant.
        let old = format!("tests/golden/{name}-v{FORMAT_VERSION_MIN}.ndt");
        let old = Bundle::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(old)).unwrap();
        assert_eq!((old.weights, old.manifest.readouts), (bundle.weights, bundle.manifest.readouts));
    }
}

#[test]
fn the_table_of_format_versions_has_a_row_for_each() {
    let table = include_str!("../src/bundle/manifest.rs");
    for version in 1..=FORMAT_VERSION {
        assert!(table.contains(&format!("\n/// | {version} | ")), "no row for version {version}");
    }
}

#[test]
fn the_readme_shows_a_manifest_of_this_version() {
    let readme = include_str!("../README.md");
    assert!(readme.contains(&format!("\nformat-version = {FORMAT_VERSION}\n")), "version {FORMAT_VERSION}");
}

#[test]
fn one_changed_byte_anywhere_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let files = ["manifest.toml", "weights.safetensors", "step.onnx", "window.onnx", "golden.safetensors"];
    for file in files.into_iter().chain(["config.toml", "splits.toml"]) {
        bundle(Positions::LagBias).write(&path).unwrap();
        let mut bytes = std::fs::read(path.join(file)).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        std::fs::write(path.join(file), bytes).unwrap();
        assert!(refusal(&path).starts_with("expected "), "{file}: {}", refusal(&path));
        std::fs::remove_file(path.join(file)).unwrap();
        assert!(refusal(&path).starts_with("expected "), "{file}: {}", refusal(&path));
        std::fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn the_record_of_the_fit_is_no_part_of_the_id_and_a_file_that_is_not_listed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let here = bundle(Positions::LagBias).write(&here).unwrap();
    let mut elsewhere = bundle(Positions::LagBias);
    elsewhere.origin.record.as_mut().unwrap().machine = "another machine".into();
    assert_eq!(elsewhere.write(&there).unwrap().id, here.id);
    std::fs::write(there.join("fit.json"), "{").unwrap();
    assert!(
        refusal(&there).starts_with("fit.json: expected what ndt-train writes, found "),
        "{}",
        refusal(&there)
    );
    std::fs::remove_file(there.join("fit.json")).unwrap();
    assert_eq!(Bundle::read(&there).unwrap().origin.record, None);

    // The curve of the fit is there as a table, for people, whom nothing keeps from changing or removing it.
    let mut long = bundle(Positions::LagBias);
    let record = long.origin.record.as_mut().unwrap();
    let [first, second] = [record.curve[0], record.curve[1]];
    record.curve =
        std::iter::once(first).chain((2..=500).map(|epoch| CurvePoint { epoch, ..second })).collect();
    let curve = record.curve.clone();
    assert_eq!(long.write(&there).unwrap().id, here.id);
    let table = std::fs::read_to_string(there.join("curve.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[..3],
        ["generation,epoch,loss,bits_per_spike,velocity_r2", "0,1,0.5,,", "0,2,0.5,0.125,0.125"]
    );
    assert_eq!((lines.len(), lines[500]), (501, "0,500,0.5,0.125,0.125"));
    std::fs::write(there.join("curve.csv"), "a note of my own").unwrap();
    assert_eq!(Bundle::read(&there).unwrap().origin.record.unwrap().curve, curve);
    std::fs::remove_file(there.join("curve.csv")).unwrap();
    assert_eq!(Bundle::read(&there).unwrap().manifest.id, here.id);

    let path = folder.path().join("linear");
    linear().write(&path).unwrap();
    std::fs::write(path.join("config.toml"), "").unwrap();
    let refusal = refusal(&path);
    assert!(
        refusal.starts_with("expected config.toml with sha256 (not in the manifest), found "),
        "{refusal}"
    );
}

#[test]
fn a_bundle_of_another_version_is_answered_with_its_version_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    bundle(Positions::LagBias).write(&path).unwrap();
    let manifest = path.join("manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let this = format!("format-version = {FORMAT_VERSION}");
    let found = |version: u32| format!("expected bundle format version {FORMAT_VERSION}, found {version}; ");
    let newer = text.replace(&this, &format!("format-version = {}\nunheard-of = true", FORMAT_VERSION + 1));
    std::fs::write(&manifest, newer).unwrap();
    let of_newer =
        "the bundle is newer than this program: run it with programs of the version that it was fitted with";
    assert_eq!(refusal(&path), found(FORMAT_VERSION + 1) + of_newer);
    std::fs::write(&manifest, text.replace(&this, "format-version = 4\n[velocity]")).unwrap();
    let of_older = "fit the model again with the ndt-train of this version, or run it with the programs that it was fitted with";
    assert_eq!(refusal(&path), found(4) + of_older);
    std::fs::write(&manifest, text.replace("seed", "sed")).unwrap();
    assert!(refusal(&path).contains("sed"), "{}", refusal(&path));
    std::fs::write(&manifest, "bundle? no").unwrap();
    assert!(refusal(&path).starts_with("expected a bundle manifest, found "));
}

#[test]
fn what_does_not_fit_is_told_all_at_once_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let mut wrong = bundle(Positions::LagBias);
    wrong.manifest.channel_ids.push(3);
    wrong.manifest.architecture.heads = 3;
    let sentence = wrong.write(&path).unwrap_err().to_string();
    assert_eq!(
        sentence,
        "expected a number of heads that divides the width 4, found 3; expected every channel id once, found 3 twice"
    );
    let mut wrong = bundle(Positions::LagBias);
    wrong.weights.remove("norm.bias");
    wrong.weights.insert("extra".into(), (vec![1], vec![0.0]));
    wrong.weights.get_mut("missing").unwrap().1[0] = f32::NAN;
    let error = wrong.write(&path).unwrap_err();
    assert!(matches!(&error, BundleError::Check(problems) if problems.len() == 3), "{error}");
    assert!(!path.exists());
}

#[test]
fn what_is_no_bundle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refusal(&folder.path().join("nowhere")).contains("nowhere"));
    assert!(refusal(folder.path()).starts_with("expected a bundle folder or .ndt file with a manifest.toml"));
    let file = folder.path().join("text.ndt");
    std::fs::write(&file, "no tar").unwrap();
    assert!(refusal(&file).starts_with("expected a bundle folder or .ndt file"), "{}", refusal(&file));
}

#[test]
fn a_linear_decoder_has_no_rates_and_no_graphs() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model", "model.ndt"] {
        let path = folder.path().join(name);
        let manifest = linear().write(&path).unwrap();
        assert_eq!(manifest.files.keys().collect::<Vec<_>>(), ["golden.safetensors", "weights.safetensors"]);
        let read = Bundle::read(&path).unwrap();
        assert_eq!(read, Bundle { manifest: manifest.clone(), ..linear() });
        assert_eq!((manifest.reach_bins(), manifest.units()), (4, 0));
    }
    let text = std::fs::read_to_string(folder.path().join("model/manifest.toml")).unwrap();
    assert!(
        text.starts_with("# A linear decoder.") && text.contains("[linear]\nwindow-bins = 4\n"),
        "{text}"
    );
    assert!(!text.contains("architecture"), "{text}");
    std::fs::remove_file(folder.path().join("model/weights.safetensors")).unwrap();
    assert!(refusal(&folder.path().join("model")).contains("weights.safetensors"));
}

#[test]
fn a_model_is_one_of_the_two() {
    let check = |change: &dyn Fn(&mut Bundle), expected: &str| {
        let mut bundle = linear();
        change(&mut bundle);
        assert_eq!(bundle.check().unwrap_err().to_string(), expected);
    };
    check(
        &|bundle| bundle.manifest.linear = None,
        "expected an architecture or a linear decoder, found neither",
    );
    let architecture = self::bundle(Positions::LagBias).manifest.architecture;
    check(
        &|bundle| bundle.manifest.architecture = architecture,
        "expected an architecture or a linear decoder, found both",
    );
    check(
        &|bundle| bundle.manifest.unit_ids = vec![1],
        "expected a linear decoder's number of units from 0 to 0, found 1",
    );
    check(
        &|bundle| bundle.manifest.readouts.clear(),
        "expected a linear decoder's number of readouts from 1 to 1, found 0",
    );
    check(
        &|bundle| bundle.manifest.linear = Some(Linear { window_bins: 0 }),
        "expected a window of bins from 1 to 4096, found 0",
    );
    check(
        &|bundle| drop(bundle.weights.remove("missing")),
        "expected a weight \"missing\" of shape [3], found none",
    );
}

#[test]
fn a_velocity_is_offered_by_its_lag_whatever_its_components_and_a_speed_is_not() {
    let mut with_speed = several_readouts();
    with_speed.manifest.readouts[1] = readout(1, "m/s", 0.0, "hand_speed");
    let error = with_speed.reading(60.0).unwrap_err().to_string();
    assert!(error.ends_with("in the bundle, found 0 ms, 100 ms"), "{error}");

    let mut along_one_axis = bundle(Positions::LagBias);
    along_one_axis.manifest.readouts[0].dims = 1;
    assert!(along_one_axis.reading(0.0).is_ok());
}

#[test]
fn the_published_velocity_has_its_own_columns_and_its_own_graphs() {
    let bundle = several_readouts();
    let columns = |bundle: &Bundle, columns: std::ops::Range<usize>| {
        let rows = bundle.golden["readouts"].1.chunks_exact(6);
        rows.flat_map(|row| row[columns.clone()].to_vec()).collect::<Vec<f32>>()
    };
    assert_eq!((bundle.manifest.velocity_columns(), bundle.manifest.velocity_dims()), (4..6, 2));
    assert_eq!(bundle.golden_velocity(), columns(&bundle, 4..6));
    assert_eq!(bundle.clone().reading(100.0).unwrap(), bundle);

    let now = bundle.clone().reading(0.0).unwrap();
    assert_eq!(now.golden_velocity(), columns(&bundle, 0..2));
    assert_eq!((&now.weights, &now.golden), (&bundle.weights, &bundle.golden));
    assert!(now.step_onnx.is_empty() && now.window_onnx.is_empty());
    assert_eq!(now.reading(100.0).unwrap().manifest, bundle.manifest);
}

#[test]
fn a_readout_has_the_unit_of_a_quantity_and_the_published_one_is_a_velocity() {
    let check = |change: &dyn Fn(&mut Manifest), expected: &str| {
        let mut bundle = several_readouts();
        change(&mut bundle.manifest);
        let found = bundle.check().unwrap_err().to_string();
        assert!(found.contains(expected), "expected {expected}, found {found}");
    };
    check(
        &|manifest| manifest.published = 1,
        "expected hand_vel as the published readout, found hand_pos in \"m\"",
    );
    check(
        &|manifest| manifest.published = 3,
        "expected the index of the published readout from 0 to 2, found 3",
    );
    check(
        &|manifest| manifest.readouts[1].unit = "N".into(),
        "expected hand_pos in the unit of its quantity, or in one that belongs to none of m/s, m/s^2, m, N, found \"N\"",
    );
    let mut in_pixels = several_readouts();
    in_pixels
        .manifest
        .readouts
        .iter_mut()
        .for_each(|readout| readout.unit = format!("pixels of {}", readout.unit));
    in_pixels.check().unwrap();
    assert_eq!(in_pixels.reading(0.0).unwrap().manifest.velocity().unwrap().unit, "pixels of m/s");
    check(
        &|manifest| manifest.readouts[1].dims = 33,
        "expected a number of components of hand_pos from 1 to 32, found 33",
    );
    check(
        &|manifest| manifest.readouts[0].lag_ms = f64::NAN,
        "expected a lag in ms of hand_vel from -10000 to 10000, found NaN",
    );
    check(
        &|manifest| manifest.readouts = vec![readout(2, "m/s", 0.0, "hand_vel"); 17],
        "expected a number of readouts from 0 to 16, found 17",
    );
}

#[test]
fn nothing_but_a_bundle_is_ever_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = bundle(Positions::LagBias);
    std::fs::create_dir(path("mine")).unwrap();
    for (name, text) in [("mine/session.nwb", "a recording"), ("notes.txt", "notes"), ("other.ndt", "no tar")]
    {
        std::fs::write(path(name), text).unwrap();
    }
    std::fs::create_dir(path("other")).unwrap();
    std::fs::write(path("other/manifest.toml"), "name = \"another program\"\n").unwrap();
    std::fs::create_dir(path("half")).unwrap();
    std::fs::write(path("half/weights.safetensors"), "weights of another program").unwrap();
    for (name, found) in [
        ("mine", "a folder that holds session.nwb"),
        ("notes.txt", "a file"),
        ("mine/session.nwb", "a file"),
        ("other.ndt", "a file that is no bundle"),
        ("half", "a folder without manifest.toml"),
        ("mine/.", "a folder that holds session.nwb"),
        ("other", "a folder with another program's manifest.toml"),
    ] {
        let error = model.write(&path(name)).unwrap_err().to_string();
        assert!(error.ends_with(&format!("found {found}; it was not touched")), "{name}: {error}");
    }
    assert_eq!(std::fs::read(path("mine/session.nwb")).unwrap(), b"a recording");
    assert_eq!(std::fs::read(path("notes.txt")).unwrap(), b"notes");
    assert_eq!(std::fs::read(path("other.ndt")).unwrap(), b"no tar");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "nothing is left beside");

    std::fs::create_dir(path("empty")).unwrap();
    for name in ["empty", "new", "new.ndt"] {
        model.write(&path(name)).unwrap();
        model.write(&path(name)).unwrap();
    }
    // A bundle beside which somebody has put a file of his own is left alone, too.
    std::fs::write(path("new/notes.txt"), "mine").unwrap();
    assert!(model.write(&path("new")).is_err());
    assert_eq!(std::fs::read(path("new/notes.txt")).unwrap(), b"mine");
}

/// A sparse file takes a few bytes in an archive, and gigabytes of zeros when it is read.
#[test]
fn a_sparse_file_in_an_archive_is_not_a_file_of_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.ndt");
    let mut header = tar::Header::new_gnu();
    header.set_path("manifest.toml").unwrap();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(0);
    let octal = |number: u64| {
        let mut digits = [0; 12];
        digits[..11].copy_from_slice(format!("{number:011o}").as_bytes());
        digits
    };
    let sparse = header.as_gnu_mut().unwrap();
    (sparse.realsize, sparse.sparse[0].offset, sparse.sparse[0].numbytes) =
        (octal(1000), octal(1000), octal(0));
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, std::io::empty()).unwrap();
    std::fs::write(&path, archive.into_inner().unwrap()).unwrap();
    let refused = Bundle::read(&path).unwrap_err();
    assert!(matches!(refused, BundleError::NoManifest { .. }), "{refused}");
}
