"""The model in plain numpy, in float64: what every engine is measured against.

Written from the model's definition and nothing else. A stream is computed bin by bin from scratch: no cache,
no padding, only the banded mask. Arrays: counts [T, C], missing [T] (1 where a bin is missing), weights as in
weights.safetensors, architecture as in manifest.toml.
"""

import numpy as np

NORM_EPSILON = 1e-5


def layer_norm(x, weights, name):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + NORM_EPSILON) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def attention(x, weights, name, architecture):
    bins, width = x.shape
    heads, window = architecture["heads"], architecture["window-bins"]
    head_width = width // heads
    lag = np.arange(bins)[:, None] - np.arange(bins)[None, :]
    query, key, value = (linear(x, weights, f"{name}.{part}") for part in ("query", "key", "value"))
    mixed = np.empty_like(x)
    for head in range(heads):
        columns = slice(head * head_width, (head + 1) * head_width)
        scores = query[:, columns] @ key[:, columns].T / np.sqrt(head_width)
        if architecture["positions"] == "lag-bias":
            scores = scores + weights[f"{name}.lag_bias"][head][np.clip(lag, 0, window - 1)]
        scores = np.where((lag >= 0) & (lag < window), scores, -np.inf)
        mixed[:, columns] = softmax(scores) @ value[:, columns]
    return linear(mixed, weights, f"{name}.output")


def batch(architecture, weights, counts, missing):
    """Log rates [T, N] and all readouts [T, R] (None without readouts) of a cold-started run of bins."""
    weights = {name: values.astype(np.float64) for name, values in weights.items()}
    missing = missing.astype(np.float64)[:, None]
    h = (1 - missing) * linear(counts.astype(np.float64), weights, "readin") + missing * weights["missing"]
    if architecture["positions"] == "learned":
        if len(h) > architecture["window-bins"]:
            raise ValueError(f"expected at most {architecture['window-bins']} bins, found {len(h)}")
        h = h + weights["position"][: len(h)]
    for layer in range(architecture["layers"]):
        name = f"layer.{layer}"
        h = h + attention(layer_norm(h, weights, f"{name}.norm1"), weights, f"{name}.attention", architecture)
        raised = linear(layer_norm(h, weights, f"{name}.norm2"), weights, f"{name}.feedforward.up")
        h = h + linear(np.maximum(raised, 0), weights, f"{name}.feedforward.down")
    state = layer_norm(h, weights, "norm")
    readouts = linear(state, weights, "readouts") if "readouts.weight" in weights else None
    return linear(state, weights, "rates"), readouts


def stream(architecture, weights, counts, missing):
    """The same, one bin at a time: each bin sees what an engine would still hold of the bins before it."""
    rows = []
    for bins in range(1, len(counts) + 1):
        first = 0 if architecture["positions"] == "lag-bias" else max(0, bins - architecture["window-bins"])
        log_rates, readouts = batch(architecture, weights, counts[first:bins], missing[first:bins])
        rows.append((log_rates[-1], None if readouts is None else readouts[-1]))
    log_rates, readouts = zip(*rows)
    return np.stack(log_rates), None if readouts[0] is None else np.stack(readouts)
