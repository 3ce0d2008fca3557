"""Validates an exported session with pynwb, and prints what is in it as JSON.

    python check_recorded.py session.nwb

Nothing of this project's own code is used.
"""

import json
import sys
import warnings

from pynwb import NWBHDF5IO, validate

warnings.simplefilter("ignore")


def check(path):
    problems = validate(path=path)
    with NWBHDF5IO(path, "r") as io:
        nwb = io.read()
        decoded = nwb.processing["decoded"]
        counts = nwb.acquisition["binned_spikes"]
        series = {name: found for name, found in decoded.data_interfaces.items() if hasattr(found, "timestamps")}
        series["binned_spikes"] = counts
        provenance = decoded["provenance"].to_dataframe()
        return {
            "problems": [str(problem) for problem in problems],
            "bins": len(decoded["bins"]),
            "counts": len(counts.timestamps),
            "electrodes": len(nwb.electrodes),
            "units": {name: found.unit for name, found in series.items()},
            "provenance": dict(zip(provenance["key"], provenance["value"])),
        }


if __name__ == "__main__":
    print(json.dumps(check(sys.argv[1])))
