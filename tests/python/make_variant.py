"""Writes one of the variants in which laboratories store recordings in NWB, with pynwb.

    python make_variant.py VARIANT FILE [SEED]

All variants hold the same simulated reaching: 60 s, spikes of 16 units that are tuned to a velocity. The heavy
variants are longer or have more units.
"""

import datetime
import sys

import h5py
import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import Position, SpatialSeries
from pynwb.ecephys import SpikeEventSeries

RATE = 100.0


def movement(random, seconds):
    """Smooth positions (m) and velocities (m/s) in two dimensions at 100 Hz."""
    steps = random.normal(size=(int(seconds * RATE), 2))
    kernel = np.hanning(61) / np.hanning(61).sum()
    velocity = 2.0 * np.stack([np.convolve(column, kernel, "same") for column in steps.T], 1)
    return np.cumsum(velocity, 0) / RATE, velocity


def spikes_of(random, velocity, units):
    """Spike times of each unit: Poisson, log-linear in the velocity."""
    tuning = random.normal(size=(2, units)) * 3.0
    base = random.uniform(1.5, 3.0, units)
    times = []
    for unit in range(units):
        rate = np.exp(np.clip(base[unit] + velocity @ tuning[:, unit], -3, 5))
        counts = random.poisson(rate / RATE)
        frames = np.repeat(np.arange(len(rate)), counts)
        times.append(np.sort((frames + random.random(len(frames))) / RATE))
    return times


def counts_of(times, seconds, width):
    edges = np.arange(int(round(seconds / width)) + 1) * width
    return np.stack([np.histogram(unit, edges)[0] for unit in times], 1)


class Variant:
    """What is written; each function of a variant changes it."""

    def __init__(self, name, seed):
        self.random = np.random.default_rng(seed)
        self.seconds, self.units = 60.0, 16
        if name == "one trial of 20 minutes":
            self.seconds = 1200.0
        if name == "1024 units for 10 minutes":
            self.seconds, self.units = 600.0, 1024
        self.name = name
        self.position, self.velocity = movement(self.random, self.seconds)
        self.times = spikes_of(self.random, self.velocity, self.units)
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
        self.nwb = NWBFile("a variant", f"{name} of seed {seed}", start)

    def electrodes(self):
        device = self.nwb.create_device("arrays")
        groups = [self.nwb.create_electrode_group(area, "an array", area, device) for area in ("PMd", "M1")]
        for unit in range(self.units):
            group = groups[unit % 2]
            self.nwb.add_electrode(location=group.name, group=group, group_name=group.name)

    def unit_table(self):
        name = self.name
        if name in ("threshold crossings", "binned counts", "ndx-binned-spikes"):
            return
        has_heldout = name != "no held-out units"
        if has_heldout:
            self.nwb.add_unit_column("heldout", "whether it is predicted")
        self.nwb.add_unit_column("quality", "of the sorting")
        for unit, times in enumerate(self.times):
            more = {"heldout": unit % 4 == 3} if has_heldout else {}
            if name == "several electrode groups":
                more["electrodes"] = [unit]
            if name == "gaps that differ by unit":
                lost = 10.0 + unit % 3
                more["obs_intervals"] = [[0.0, lost], [lost + 2.0, self.seconds]]
                times = times[(times < lost) | (times > lost + 2.0)]
            row = unit if name == "row numbers" else 100 + unit
            self.nwb.add_unit(spike_times=times, id=row, quality=["good", "fair"][unit % 2], **more)

    def trials(self):
        name = self.name
        if name in ("no trials", "ndx-binned-spikes"):
            return
        column = "phase" if name == "other split names" else "split"
        self.nwb.add_trial_column(column, "what the trial is for")
        if name == "one trial of 20 minutes":
            self.nwb.add_trial(start_time=0.0, stop_time=self.seconds, split="train")
            return
        words = ["fit", "fit", "fit", "choose", "keep"] if column == "phase" else ["train"] * 3 + ["val", "test"]
        for trial in range(int(self.seconds / 2)):
            start = trial * 2.0
            if name == "trials with NaN times" and trial % 7 == 2:
                start = float("nan")
            self.nwb.add_trial(start_time=start, stop_time=trial * 2.0 + 1.5, **{column: words[trial % 5]})

    def behavior(self):
        regular = {"starting_time": 0.0, "rate": RATE}
        series = TimeSeries(name="hand_vel", data=self.velocity, unit="m/s", **regular)
        if self.name == "acquisition instead of a module":
            self.nwb.add_acquisition(series)
            return
        module = self.nwb.create_processing_module("behavior", "kinematics")
        if self.name == "position only":
            position = SpatialSeries(
                name="hand_pos", data=self.position * 100.0, unit="cm", reference_frame="the screen", **regular
            )
            module.add(Position(spatial_series=position))
        elif self.name == "finger velocities":
            fingers = np.concatenate([self.velocity, -self.velocity[:, :1]], 1)
            module.add(TimeSeries(name="finger_vel", data=fingers, unit="a.u./s", **regular))
        elif self.name == "EMG of 12 columns in mV":
            weights = self.random.normal(size=(2, 12))
            emg = np.abs(self.velocity @ weights) + 0.01 * self.random.random((len(self.velocity), 12))
            module.add(TimeSeries(name="EMG", data=emg, unit="mV", **regular))
        else:
            module.add(series)

    def counts(self):
        if self.name == "threshold crossings":
            for unit, times in enumerate(self.times):
                region = self.nwb.create_electrode_table_region([unit], "one electrode")
                waveforms = np.zeros((len(times), 4), "i2")
                events = {"timestamps": times, "electrodes": region}
                self.nwb.add_acquisition(SpikeEventSeries(name=f"crossings_{unit:02}", data=waveforms, **events))
        if self.name == "binned counts":
            counts = counts_of(self.times, self.seconds, 0.01).astype("u2")
            regular = {"starting_time": 0.0, "rate": 100.0}
            self.nwb.add_acquisition(TimeSeries(name="spike_counts", data=counts, unit="counts", **regular))

    def binned_spikes(self, path):
        """Adds what ndx-binned-spikes writes: counts [units, events, bins] around events."""
        width, bins = 0.02, 100
        counts = counts_of(self.times, self.seconds, width)
        events = np.arange(0.0, self.seconds, bins * width)
        with h5py.File(path, "r+") as file:
            group = file.require_group("processing/ecephys/BinnedAlignedSpikes")
            data = counts[: len(events) * bins].reshape(len(events), bins, self.units).transpose(2, 0, 1)
            group["data"] = data.astype("u8")
            group["event_timestamps"] = events + 0.5
            kind = {"neurodata_type": "BinnedAlignedSpikes", "namespace": "ndx-binned-spikes"}
            about = {"description": "counts", "object_id": "4a0b2c3e-5bcb-4c33-9d0c-0e6f1c2d3e4f"}
            times = {"bin_width_in_milliseconds": 20.0, "milliseconds_from_event_to_first_bin": -500.0}
            group.attrs.update(kind | about | times)

    def write(self, path):
        if self.name in ("several electrode groups", "threshold crossings"):
            self.electrodes()
        self.unit_table()
        self.trials()
        self.behavior()
        self.counts()
        if self.name == "ndx-binned-spikes":
            self.nwb.create_processing_module("ecephys", "counts")
        with NWBHDF5IO(path, "w") as io:
            io.write(self.nwb)
        if self.name == "ndx-binned-spikes":
            self.binned_spikes(path)


if __name__ == "__main__":
    Variant(sys.argv[1], int(sys.argv[3]) if len(sys.argv) > 3 else 0).write(sys.argv[2])
