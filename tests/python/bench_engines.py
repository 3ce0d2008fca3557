#!/usr/bin/env python3
"""How long one bin takes in Python's onnxruntime and in PyTorch: python bench_engines.py BUNDLE [--json FILE]

BUNDLE is a bundle folder with lag biases; `cargo bench -p ndt-daemon --bench engines` leaves that of its reference
model in target/bench/reference. What computes takes turns, on one thread; the median of a bin is told, in
microseconds. A whole window is what a decoder without a cache computes for each bin. Both libraries must give the
same log rates before they are timed. A library that is not installed is said to be skipped.
"""

import argparse
import importlib.util
import json
import pathlib
import statistics
import time
import tomllib

import numpy as np

from check_onnx import read_safetensors

ROUNDS, STEPS, WINDOWS = 7, 200, 15


def onnxruntime_rows(folder, manifest, counts):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def session(name):
        return onnxruntime.InferenceSession(str(folder / name), options, ["CPUExecutionProvider"])

    window, step = session("window.onnx"), session("step.onnx")
    batch = {"counts": counts[None], "missing": np.zeros((1, len(counts)), np.float32)}
    slots = manifest["architecture"]["window-bins"]
    lags = np.full(slots, slots, np.int64)
    # The memory is read and written where it lies.
    binding = step.io_binding()
    for value in step.get_inputs():
        if value.name in ("counts", "missing", "slot", "lags"):
            continue
        memory = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(value.shape, np.float32))
        binding.bind_ortvalue_input(value.name, memory)
        binding.bind_ortvalue_output(f"{value.name}_next", memory)
    for name in ("log_rates", "velocity"):
        binding.bind_output(name)

    def one_step(bin):
        np.minimum(lags + 1, slots, out=lags)
        lags[bin % slots] = 0
        binding.bind_cpu_input("counts", counts[bin % len(counts)][None])
        binding.bind_cpu_input("missing", np.zeros(1, bool))
        binding.bind_cpu_input("slot", np.array([[bin % slots]]))
        binding.bind_cpu_input("lags", lags)
        step.run_with_iobinding(binding)
        return binding.get_outputs()[-2].numpy()

    def one_window(_):
        return window.run(["log_rates"], batch)[0]

    version = onnxruntime.__version__
    return {f"onnxruntime {version} step": one_step, f"onnxruntime {version} window": one_window}


def torch_rows(folder, manifest, counts):
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    shape = manifest["architecture"]
    width, heads, limit = shape["width"], shape["heads"], shape["window-bins"]
    weights = {name: torch.tensor(array) for name, array in read_safetensors(folder / "weights.safetensors").items()}
    transposed = {name: value.T.contiguous() for name, value in weights.items() if value.ndim == 2}
    rows = torch.tensor(counts)
    lag = torch.arange(limit)[:, None] - torch.arange(limit)[None, :]
    hidden = torch.where(lag >= 0, 0.0, float("-inf"))

    def linear(x, name):
        return torch.nn.functional.linear(x, transposed[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def split(x):
        return x.view(-1, heads, width // heads).transpose(0, 1)[None]

    biases = [weights[f"layer.{layer}.attention.lag_bias"] for layer in range(shape["layers"])]
    masks = [(bias[:, lag.clamp(0, limit - 1)] + hidden)[None] for bias in biases]
    backwards = [bias.flip(1)[None, :, None] for bias in biases]

    def layers(x, remember, biases):
        for layer in range(shape["layers"]):
            name = f"layer.{layer}"
            normed = norm(x, f"{name}.norm1")
            query, key, value = (split(linear(normed, f"{name}.attention.{part}")) for part in ("query", "key", "value"))
            key, value = remember(layer, key, value)
            mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=biases[layer])
            x = x + linear(mixed[0].transpose(0, 1).reshape(-1, width), f"{name}.attention.output")
            x = x + linear(torch.relu(linear(norm(x, f"{name}.norm2"), f"{name}.feedforward.up")), f"{name}.feedforward.down")
        x = norm(x, "norm")
        return linear(x, "rates"), linear(x, "readouts")

    def one_window(_):
        return layers(linear(rows, "readin"), lambda _, key, value: (key, value), masks)[0].numpy()

    caches = [[torch.zeros(1, heads, limit, width // heads)] * 2 for _ in range(shape["layers"])]

    def remember(layer, *new):
        caches[layer] = [torch.cat((old[:, :, 1:], new), 2) for old, new in zip(caches[layer], new)]
        return caches[layer]

    def one_step(bin):
        return layers(linear(rows[bin % limit][None], "readin"), remember, backwards)[0].numpy()

    return {f"torch {torch.__version__} step": one_step, f"torch {torch.__version__} window": one_window}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    manifest = tomllib.loads((arguments.bundle / "manifest.toml").read_text())
    bins, channels = manifest["architecture"]["window-bins"], len(manifest["channel-ids"])
    counts = (np.random.default_rng(1).random((bins, channels)) < 0.05).astype(np.float32)
    rows = {}
    for library, make in (("onnxruntime", onnxruntime_rows), ("torch", torch_rows)):
        if importlib.util.find_spec(library) is None:
            print(f"skipped: {library} is not installed here")
            continue
        rows |= make(arguments.bundle, manifest, counts)
    answers = {name: row(0) for name, row in rows.items() if name.endswith("window")}
    for name, answer in answers.items():
        apart = np.abs(answer.reshape(bins, -1) - next(iter(answers.values())).reshape(bins, -1)).max()
        if not apart < 1e-3:
            raise SystemExit(f"expected the same log rates of all, found {name} {apart:.1e} apart")
    times = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, row in rows.items():
            for bin in range(STEPS if name.endswith("step") else WINDOWS):
                begun = time.perf_counter()
                row(bin)
                times[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(found) * 1e6 for name, found in times.items()}
    for name, median in medians.items():
        print(f"{name:28} {median:8.1f} us")
    if arguments.json:
        arguments.json.write_text(json.dumps({"median-us": medians}, indent=2) + "\n")


if __name__ == "__main__":
    main()
