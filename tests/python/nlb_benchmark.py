"""The Neural Latents Benchmark's own tools: its tensors and its scores, to compare ours with.

    python nlb_benchmark.py windows VARIANT ...
    python nlb_benchmark.py tensors NWB VARIANT BIN_MS PHASE OUT
    python nlb_benchmark.py score TARGETS SUBMISSION ...

`windows` prints as JSON where nlb_tools cuts these data sets. `tensors` has nlb_tools read NWB (a file or a folder)
and writes what it makes of it into one HDF5 file: the input tensors at the root, the targets in the data set's group
(phase `val`; nobody has those of `test`). `score` prints nlb_tools' scores of each submission as JSON.
"""

import json
import sys
import warnings

from nlb_tools.evaluation import evaluate
from nlb_tools.make_tensors import (
    PARAMS,
    make_eval_input_tensors,
    make_eval_target_tensors,
    make_train_input_tensors,
    save_to_h5,
)
from nlb_tools.nwb_interface import NWBDataset

warnings.simplefilter("ignore")


def in_order_of_time(load):
    """nlb_tools 0.0.4 is of the days of pandas 1.3, which sorted the times when it joined frames of different
    times (the behaviour has gaps between trials, the spikes have none). Later versions append what is new."""

    def sorted_load(self, *arguments, **options):
        data, *others = load(self, *arguments, **options)
        return (data.sort_index(), *others)

    return sorted_load


NWBDataset.load = in_order_of_time(NWBDataset.load)


def windows(variant):
    params = PARAMS[variant]
    return {
        "align": params["make_params"]["align_field"],
        "window": list(params["make_params"]["align_range"]),
        "forward": params["fp_len"],
        "behavior": params["behavior_field"],
        "lag": params["lag"],
        "conditions": params["psth_params"]["cond_fields"],
        "psth_sd": params["psth_params"]["kern_sd"],
    }


def tensors(path, variant, bin_ms, phase, out):
    dataset = NWBDataset(path)
    dataset.resample(bin_ms)
    train, evaluated = ("train", "val") if phase == "val" else (["train", "val"], "test")
    quiet = {"save_file": False}
    made = make_train_input_tensors(
        dataset, variant, train, include_behavior=True, include_forward_pred=True, **quiet
    )
    made.update(make_eval_input_tensors(dataset, variant, evaluated, **quiet))
    if phase == "val":
        targets = make_eval_target_tensors(dataset, variant, train, evaluated, include_psth=True, **quiet)
        made.update(targets)
    save_to_h5(made, out, overwrite=True)


def score(targets, submission):
    scores = {}
    for part in evaluate(targets, submission):
        for group in part.values():
            # Scaling sets' scores are called "[100] co-bps".
            scores.update({name.split("] ")[-1]: float(value) for name, value in group.items()})
    return scores


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "windows":
        print(json.dumps({variant: windows(variant) for variant in arguments}))
    elif command == "tensors":
        path, variant, bin_ms, phase, out = arguments
        tensors(path, variant, int(bin_ms), phase, out)
        print(json.dumps(out))
    else:
        targets, *submissions = arguments
        print(json.dumps([score(targets, submission) for submission in submissions]))
