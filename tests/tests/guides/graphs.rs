//! The program of `protocol/README.md` that runs a bundle's graph: it decodes counts with NaN as `ndtd decode` does.

use crate::model;
use crate::pages::saved_from;
use ndt_protocol::bundle::tensors::{self, Tensors};
use ndt_tests::lsl::Session;
use ndt_tests::{program, python, random_counts, workspace};
use std::process::Command;

const SHAPE: [usize; 3] = [2, 14, 12];

/// Writes the array `counts` of a safetensors file as `counts.npy`.
const TO_NUMPY: &str = "import pathlib, numpy as np; from check_onnx import read_safetensors as read\n\
    np.save('counts.npy', read(pathlib.Path('counts.safetensors'))['counts'])";

/// Compares what both programs wrote, and says what the graph makes of counts that hold NaN.
const COMPARED: &str = "import pathlib, numpy as np, onnxruntime; from check_onnx import read_safetensors as read\n\
    ours, graph = read(pathlib.Path('decoded.safetensors')), np.load('decoded.npz')\n\
    print('largest difference', max(float(np.abs(ours[name] - graph[name]).max()) for name in graph), len(graph.files))\n\
    session = onnxruntime.InferenceSession('model/window.onnx', providers=['CPUExecutionProvider'])\n\
    counts = np.load('counts.npy'); inputs = {'counts': counts, 'missing': np.zeros(counts.shape[:2], '<f4')}\n\
    print('fraction of NaN', [float(np.isnan(values).mean()) for values in session.run(['log_rates', 'velocity'], inputs)])";

#[test]
fn the_program_that_runs_the_graph_decodes_counts_with_nan_as_ndtd_does() {
    let session = Session::new();
    let folder = session.folder();
    let bundle = model(&session);
    let script = saved_from("protocol/README.md", "decode_window.py", folder);
    let mut counts = random_counts(SHAPE[0] * SHAPE[1], SHAPE[2], 4);
    counts.iter_mut().step_by(7).for_each(|count| *count = f32::NAN);
    counts[5 * SHAPE[2]..6 * SHAPE[2]].fill(f32::NAN);
    let arrays = Tensors::from([("counts".to_owned(), (SHAPE.to_vec(), counts))]);
    std::fs::write(folder.join("counts.safetensors"), tensors::to_bytes(&arrays)).unwrap();
    let ran = |command: &mut Command| {
        command
            .current_dir(folder)
            .env("PYTHONPATH", workspace().join("tests/python").canonicalize().unwrap());
        let done = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let python = python().parent().unwrap().canonicalize().unwrap().join("python");
    let ndtd = program("ndtd").canonicalize().unwrap();
    ran(Command::new(&python).args(["-c", TO_NUMPY]));
    ran(Command::new(ndtd)
        .args(["decode", "--counts", "counts.safetensors", "--out", "decoded.safetensors"])
        .arg("--bundle")
        .arg(bundle));
    ran(Command::new(&python).arg(script).args(["model", "counts.npy"]));
    let said = ran(Command::new(&python).args(["-c", COMPARED]));
    println!("{said}");
    let difference = said.strip_prefix("largest difference ").and_then(|rest| rest.split(' ').next());
    assert!(difference.unwrap().parse::<f64>().unwrap() < 1e-4, "{said}");
    // What the page says of a graph that is given NaN.
    assert!(said.ends_with("fraction of NaN [1.0, 1.0]\n"), "{said}");
}
