"""Writes a recording as NWB, with pynwb, from plain arrays: replace `recorded` by what reads your own files.

Example: python tests/python/write_recording.py recording.nwb
"""

import datetime
import sys

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries


def recorded():
    """Spike times of each unit (s), start and stop of each trial (s), times (s) and velocity of the hand (m/s, [T, 2])."""
    random = np.random.default_rng(1)
    spike_times = {id: np.sort(random.uniform(0, 40, 200)) for id in range(1, 25)}
    trials = [(2.0 * trial, 2.0 * trial + 1.5) for trial in range(20)]
    times = np.arange(0, 40, 0.01)
    return spike_times, trials, times, 0.2 * np.stack([np.sin(times), np.cos(times)], 1)


def main():
    spike_times, trials, times, velocity = recorded()
    start = datetime.datetime(2026, 11, 28, 9, 30, tzinfo=datetime.timezone.utc)
    nwb = NWBFile("reaching, M1", "subject-a-2026-11-28", start)
    # A unit that is held out is predicted and never shown to the model; leave the column out to show all of them.
    nwb.add_unit_column("heldout", "whether the unit is predicted and never shown")
    for number, (id, unit_times) in enumerate(spike_times.items()):
        nwb.add_unit(id=id, spike_times=unit_times, heldout=number % 4 == 3)
    nwb.add_trial_column("split", "train, val or test")
    for number, (begin, end) in enumerate(trials):
        split = ["train", "train", "train", "val", "test"][number % 5]
        nwb.add_trial(start_time=begin, stop_time=end, split=split)
    behavior = nwb.create_processing_module("behavior", "kinematics of the hand")
    behavior.add(TimeSeries(name="hand_vel", data=velocity, timestamps=times, unit="m/s"))
    with NWBHDF5IO(sys.argv[1], "w") as io:
        io.write(nwb)


if __name__ == "__main__":
    main()
