"""Opens an NWB file with pynwb, validates it, and prints what is in it as JSON.

    python check_nwb.py FILE

Exit status 1 where the validator finds anything. Nothing of this project's own code is used.
"""

import json
import sys
import warnings

from pynwb import NWBHDF5IO, validate

warnings.simplefilter("ignore")


def series(found):
    """Shape, unit and scale of one TimeSeries, and its first row in the unit."""
    data = found.data[:]
    return {
        "shape": list(data.shape),
        "unit": found.unit,
        "conversion": float(found.conversion),
        "first": [float(value) for value in (data[0] * found.conversion).ravel()] if len(data) else [],
        "timestamps": None if found.timestamps is None else len(found.timestamps),
    }


def check(path):
    problems = validate(path=path)
    if isinstance(problems, tuple):  # pynwb 2 gives (problems, status)
        problems = problems[0]
    with NWBHDF5IO(path, "r") as io:
        nwb = io.read()
        units = nwb.units
        trials = nwb.trials
        modules = nwb.processing
        behavior = modules["behavior"].data_interfaces if "behavior" in modules else {}
        heldout = units["heldout"][:] if "heldout" in units.colnames else []
        return {
            "identifier": nwb.identifier,
            "units": len(units),
            "heldout": sum(bool(value) for value in heldout),
            "spikes": int(sum(len(units["spike_times"][row]) for row in range(len(units)))),
            "first_unit": {
                "id": int(units.id[0]),
                "spikes": len(units["spike_times"][0]),
                "intervals": len(units["obs_intervals"][0]) if "obs_intervals" in units.colnames else 0,
                "electrodes": len(units["electrodes"][0]) if "electrodes" in units.colnames else 0,
            },
            "trials": 0 if trials is None else len(trials),
            "columns": [] if trials is None else sorted(trials.colnames),
            "splits": {}
            if trials is None or "split" not in trials.colnames
            else {name: list(trials["split"][:]).count(name) for name in sorted(set(trials["split"][:]))},
            "behavior": {name: series(found) for name, found in behavior.items() if hasattr(found, "data")},
            "problems": [str(problem) for problem in problems],
        }


if __name__ == "__main__":
    summary = check(sys.argv[1])
    print(json.dumps(summary))
    sys.exit(1 if summary["problems"] else 0)
