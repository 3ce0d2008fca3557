"""Validates a decoded session with pynwb, compares it with the same session as arrays, and prints what is in it as JSON.

    python check_decoded.py decoded.nwb decoded.npz

Nothing of this project's own code is used.
"""

import json
import sys
import warnings

import numpy as np
from pynwb import NWBHDF5IO, validate

warnings.simplefilter("ignore")


def check(path, arrays):
    problems = validate(path=path)
    with NWBHDF5IO(path, "r") as io:
        nwb = io.read()
        decoded = nwb.processing["decoded"]
        bins = decoded["bins"].to_dataframe()
        outputs = decoded["outputs"].to_dataframe()
        units = decoded["rate_units"].to_dataframe()
        provenance = decoded["provenance"].to_dataframe()
        series = {name: found for name, found in decoded.data_interfaces.items() if hasattr(found, "timestamps")}
        readouts = [found.data[:] for name, found in series.items() if name != "rates"]
        order = [name for name in dict.fromkeys(name.rsplit(" ", 1)[0] for name in outputs["output"])]
        side_by_side = np.concatenate([np.reshape(series[name].data[:], (len(bins), -1)) for name in order], axis=1)
        assert len(readouts) == len(order)

        np.testing.assert_array_equal(series["rates"].data[:], arrays["rates"])
        np.testing.assert_array_equal(side_by_side, arrays["outputs"])
        np.testing.assert_array_equal(bins["stop_time"], arrays["time_s"])
        for name in ["seq", "quality", "reasons", "trial", "split"]:
            np.testing.assert_array_equal(bins[name], arrays[name])
        np.testing.assert_array_equal(units["unit_id"], arrays["unit_ids"])
        np.testing.assert_array_equal(units["is_input"], arrays["unit_is_input"])
        np.testing.assert_array_equal(outputs["output"], arrays["output_names"])
        np.testing.assert_array_equal(outputs["unit"], arrays["output_units"])
        np.testing.assert_array_equal(outputs["lag_ms"], arrays["output_lags_ms"])
        assert list(arrays["provenance_keys"]) == list(provenance["key"])
        return {
            "problems": [str(problem) for problem in problems],
            "bins": len(bins),
            "quality": {name: int(count) for name, count in bins["quality"].value_counts().items()},
            "last_rates": [float(rate) for rate in arrays["rates"][-1]],
            "last_outputs": [float(value) for value in arrays["outputs"][-1]],
            "series": {
                name: {"unit": found.unit, "first_s": float(found.timestamps[0]), "description": found.description}
                for name, found in series.items()
            },
            "provenance": dict(zip(provenance["key"], provenance["value"])),
            "session_start": nwb.session_start_time.isoformat(),
        }


if __name__ == "__main__":
    print(json.dumps(check(sys.argv[1], np.load(sys.argv[2]))))
