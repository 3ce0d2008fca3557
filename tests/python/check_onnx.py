#!/usr/bin/env python3
"""Checks the ONNX graphs of bundle folders: python check_onnx.py DIR... [--reference-only]

Both graphs must pass the ONNX checker in full mode, take and give what they are documented to, and give the
golden log rates and velocity in ONNX Runtime, window.onnx at once and step.onnx bin by bin from a cold start.
All of it is compared with reference.py too. With --reference-only the golden file need hold inputs alone.

Prints the largest differences as a line of JSON for each folder; the exit status is 1 where one is above the
tolerance, and 1 with a sentence where a graph is not as documented.
"""

import argparse
import json
import pathlib
import sys
import tomllib

import numpy as np
import onnx
import onnxruntime

import reference

TOLERANCE = 1e-4

# Of step.onnx.
ELEMENTS = {
    "missing": np.bool_,
    "slot": np.int64,
    "lags": np.int64,
    "window_missing": np.bool_,
    "window_missing_next": np.bool_,
}


def element(path, name):
    return ELEMENTS.get(name, np.float32) if path.name == "step.onnx" else np.float32


def read_safetensors(path):
    """Arrays by name. The file: length of the header (u64, little-endian), header (JSON), values."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            raise SystemExit(f"expected F32 in {name}, found {entry['dtype']}")
        first, last = entry["data_offsets"]
        arrays[name] = np.frombuffer(data[start + first : start + last], "<f4").reshape(entry["shape"])
    return arrays


def expected_values(manifest):
    """Inputs and outputs of both graphs as they are documented: {file: (inputs, outputs)}, name to shape.

    All are f32 but those in ELEMENTS."""
    architecture = manifest["architecture"]
    channels, units = len(manifest["channel-ids"]), len(manifest["unit-ids"])
    slots = architecture["window-bins"]
    if architecture["positions"] == "lag-bias":
        cache = [1, slots, architecture["width"]]
        layers = range(architecture["layers"])
        memory = {f"{name}.{layer}": cache for layer in layers for name in ("keys", "values")}
    else:
        memory = {"window_counts": [slots, channels], "window_missing": [slots]}

    def estimate(*leading):
        outputs = {"log_rates": [*leading, units], "rates": [*leading, units]}
        if "readouts" in manifest:
            outputs["velocity"] = [*leading, manifest["readouts"][manifest["published"]]["dims"]]
        return outputs

    batch = ("batch", "bins")
    return {
        "window.onnx": ({"counts": [*batch, channels], "missing": [*batch]}, estimate(*batch)),
        "step.onnx": (
            {"counts": [1, channels], "missing": [1], "slot": [1, 1], "lags": [slots]} | memory,
            estimate(1) | {f"{name}_next": shape for name, shape in memory.items()},
        ),
    }


def published(manifest, readouts):
    """Of the columns of all readouts [T, R] those of the velocity that is published; None without readouts."""
    if readouts is None:
        return None
    dims = [readout["dims"] for readout in manifest["readouts"]]
    first = sum(dims[: manifest["published"]])
    return readouts[:, first : first + dims[manifest["published"]]]


def load(path, inputs, outputs):
    """Checks one graph and gives a function from inputs to outputs, both by name."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    domains = [(opset.domain, opset.version) for opset in model.opset_import]
    if domains != [("", 23)] or model.ir_version != 11:
        raise SystemExit(f"{path.name}: expected opset 23 and IR 11, found {domains} and {model.ir_version}")
    for expected, found in ((inputs, model.graph.input), (outputs, model.graph.output)):
        elements = {value.name: value.type.tensor_type.elem_type for value in found}
        found = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in found
        }
        if expected != found:
            raise SystemExit(f"{path.name}: expected {expected}, found {found}")
        documented = {name: onnx.helper.np_dtype_to_tensor_dtype(np.dtype(element(path, name))) for name in found}
        if elements != documented:
            raise SystemExit(f"{path.name}: expected elements {documented}, found {elements}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda values: dict(zip(names, session.run(names, values)))


def run_step(step, inputs, counts, missing):
    """step.onnx from a cold start, in a ring that begins in the middle; a step may change its own slot alone."""
    own = ("counts", "missing", "slot", "lags")
    memory = {
        name: np.zeros(shape, ELEMENTS.get(name, np.float32)) for name, shape in inputs.items() if name not in own
    }
    (slots,) = inputs["lags"]
    lags = np.full(slots, slots, np.int64)
    rows = []
    for bin_, (row, is_missing) in enumerate(zip(counts, missing)):
        slot = (slots // 2 + bin_) % slots
        lags = np.minimum(lags + 1, slots)
        lags[slot] = 0
        bin_inputs = {
            "counts": row[None],
            "missing": np.array([is_missing != 0]),
            "slot": np.array([[slot]]),
            "lags": lags,
        }
        outputs = step(bin_inputs | memory)
        for name, old in memory.items():
            new = outputs.pop(f"{name}_next")
            axis = 1 if name.startswith(("keys", "values")) else 0
            if not np.array_equal(np.delete(new, slot, axis), np.delete(old, slot, axis)):
                raise SystemExit(f"step.onnx: expected {name} to change at slot {slot} alone, bin {bin_}")
            memory[name] = new
        rows.append(outputs)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def run_window(window, architecture, counts, missing):
    """window.onnx: all bins at once, or the rolling window of each bin where positions are learned.

    The batch's second stream is another one, which must leave no trace in the first."""
    other = np.flip(counts, axis=1) + 1

    def first_of_two(first, last):
        outputs = window(
            {
                "counts": np.stack([counts[first:last], other[first:last]]),
                "missing": np.stack([missing[first:last], 1 - missing[first:last]]),
            }
        )
        return {name: values[0] for name, values in outputs.items()}

    if architecture["positions"] == "lag-bias":
        return first_of_two(0, len(counts))
    length = architecture["window-bins"]
    outputs = first_of_two(0, min(length, len(counts)))
    later = [first_of_two(last - length, last) for last in range(length + 1, len(counts) + 1)]
    return {
        name: np.concatenate([values, *(row[name][-1:] for row in later)]) for name, values in outputs.items()
    }


def largest_differences(folder, reference_only):
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    architecture = manifest["architecture"]
    weights, golden = (read_safetensors(folder / f"{name}.safetensors") for name in ("weights", "golden"))
    counts, missing = golden["counts"], golden["missing"]

    files = expected_values(manifest)
    step, window = (load(folder / name, *files[name]) for name in ("step.onnx", "window.onnx"))
    found = {
        "step.onnx": run_step(step, files["step.onnx"][0], counts, missing),
        "window.onnx": run_window(window, architecture, counts, missing),
    }
    log_rates, readouts = reference.stream(architecture, weights, counts, missing)
    expected = {"reference": {"log_rates": log_rates, "velocity": published(manifest, readouts)}}
    if not reference_only:
        velocity = published(manifest, golden.get("readouts"))
        expected["golden"] = {"log_rates": golden["log_rates"], "velocity": velocity}

    differences = {}
    for origin, values in expected.items():
        for file, outputs in found.items():
            for name in ("log_rates", "velocity"):
                if (values[name] is None) != (name not in outputs):
                    raise SystemExit(f"expected {name} in {file} exactly if it is in the {origin}")
                if name in outputs:
                    difference = np.abs(outputs[name].astype(np.float64) - values[name]).max()
                    differences[f"{file} {name} against {origin}"] = float(difference)
    for file, outputs in found.items():
        difference = np.abs(np.log(outputs["rates"].astype(np.float64)) - outputs["log_rates"]).max()
        differences[f"{file} log(rates) against log_rates"] = float(difference)
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=pathlib.Path, nargs="+", metavar="DIR")
    parser.add_argument("--reference-only", action="store_true")
    arguments = parser.parse_args()
    all_passed = True
    for folder in arguments.bundles:
        differences = largest_differences(folder, arguments.reference_only)
        # Written so that a NaN fails too.
        passed = all(difference <= TOLERANCE for difference in differences.values())
        line = {"bundle": folder.name, "passed": passed, "tolerance": TOLERANCE, "differences": differences}
        print(json.dumps(line))
        all_passed &= passed
    return 0 if all_passed else 1


if __name__ == "__main__":
    sys.exit(main())
