"""Compares a recording in bins as .npz with the same one as safetensors, and prints what is in it as JSON.

    python check_tensors.py session.npz session.safetensors

Nothing of this project's own code is used; a safetensors file is read by its published format.
"""

import json
import sys

import numpy as np

TYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "BOOL": "?"}


def read_safetensors(path):
    """The arrays of a safetensors file; text arrays are put together from their lists."""
    with open(path, "rb") as file:
        data = file.read()
    length = int.from_bytes(data[:8], "little")
    header, data = json.loads(data[8 : 8 + length]), data[8 + length :]
    texts = json.loads(header.pop("__metadata__")["text"])
    arrays = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        array = np.frombuffer(data[first:last], TYPES[entry["dtype"]]).reshape(entry["shape"])
        arrays[name] = np.array(texts[name])[array] if name in texts else array
    return arrays


def check(arrays, others):
    assert sorted(arrays) == sorted(others)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], others[name], err_msg=name)
    spikes, split = arrays["spikes"], arrays["split"]
    assert spikes.shape[:-1] == arrays["time_s"].shape == arrays["behavior"].shape[:-1]
    assert len(split) == len(arrays["trial"]) == len(spikes) and spikes.shape[-1] == len(arrays["unit_ids"])
    return {
        "axes": spikes.ndim,
        "spikes": float(spikes.sum()),
        "splits": {name: int((split == name).sum()) for name in ["train", "val", "test"]},
        "behavior_units": list(arrays["behavior_units"]),
    }


if __name__ == "__main__":
    print(json.dumps(check(np.load(sys.argv[1]), read_safetensors(sys.argv[2]))))
