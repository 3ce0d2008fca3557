"""A rig for a first session over Lab Streaming Layer: offers made-up spike counts to ndtd, one bin every 20 ms.

Example: python tests/python/first_lsl_rig.py rig --bundle model --seconds 10
"""

import argparse
import pathlib
import time
import tomllib

import numpy as np
import pylsl

WIDTH_S = 0.02


def spikes_of_last_bin(random, channels):
    """Replace this by your own: for each channel, its spikes in the bin that has just ended."""
    return random.poisson(0.12, channels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--bundle", type=pathlib.Path, required=True, help="folder of the model, for its channel ids")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()

    channel_ids = tomllib.loads((arguments.bundle / "manifest.toml").read_text())["channel-ids"]
    # A source id that stays the same lets the daemon take the stream up again after the rig has restarted.
    info = pylsl.StreamInfo(arguments.name, "BinnedSpikes", len(channel_ids), 1 / WIDTH_S, "float32", "first-rig")
    channels = info.desc().append_child("channels")
    for channel_id in channel_ids:
        channels.append_child("channel").append_child_value("label", str(channel_id))
    outlet = pylsl.StreamOutlet(info, chunk_size=1, max_buffered=10)
    if not outlet.wait_for_consumers(60):
        raise SystemExit("expected a daemon to open the stream within 60 s, found none")
    random = np.random.default_rng()
    start = pylsl.local_clock()
    for number in range(round(arguments.seconds / WIDTH_S)):
        end = start + (number + 1) * WIDTH_S  # on a fixed grid, so that a lost sample shows as a gap
        time.sleep(max(0.0, end - pylsl.local_clock()))
        outlet.push_sample(spikes_of_last_bin(random, len(channel_ids)).astype(float).tolist(), end)
    time.sleep(0.5)  # the last samples leave with the outlet


if __name__ == "__main__":
    main()
