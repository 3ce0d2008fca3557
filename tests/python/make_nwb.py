"""Writes an NWB file with today's pynwb that has in it what readers stumble over, and prints as JSON what a
reader should find.

    python make_nwb.py FILE [--bare | --foreign]

Gzip and shuffle, soft-linked timestamps, variable-length strings outside ASCII, index columns of one, two and
four bytes, ragged and two-dimensional trial columns, int16 data with a conversion, an offset, a series with
starting_time and rate, series inside containers, unsorted spike times. With --bare: units with spike times
and nothing else (no heldout, no intervals, no trials, no behaviour). With --foreign: the same recording as
writers other than pynwb store it (texts of fixed length and in ASCII, booleans as bytes, attributes as lists
of one, signed index columns).
"""

import datetime
import json
import sys

import h5py
import numpy as np
from pynwb import H5DataIO, NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries

UNITS, TRIALS = 20, 12


def recording(identifier):
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    about = {"experimenter": ["Doe, Jané"], "keywords": ["spikes"]}
    return NWBFile("a session of 1 µm electrodes", identifier, start, **about)


def add_units(nwb, random, bare):
    if not bare:
        device = nwb.create_device("array")
        group = nwb.create_electrode_group("array", "implanted", "M1", device)
        for _ in range(4):
            nwb.add_electrode(location="M1", group=group)
        nwb.add_unit_column("quality", "of the sorting")
        nwb.add_unit_column("heldout", "whether it is predicted")
    spikes, first = 0, []
    for unit in range(UNITS):
        # Above 65,535 spikes in all, so that the index needs four bytes; its siblings need one and two.
        times = random.uniform(0.0, 60.0, 4000 if not bare else 10)
        if unit % 2:
            times = np.sort(times)
        spikes += len(times)
        first = first or sorted(times)[:3]
        extra = {} if bare else {
            "obs_intervals": [[30.0, 60.0], [0.0, 29.5]] + [[59.0, 60.0]] * 20,
            "electrodes": [unit % 4],
            "quality": ["fair", "très bon"][unit % 2],
            "heldout": unit % 5 == 0,
        }
        nwb.add_unit(spike_times=times, id=100 + unit, **extra)
    return {"units": UNITS, "spikes": spikes, "heldout": 0 if bare else 4, "first": [float(t) for t in first]}


def add_trials(nwb):
    nwb.add_trial_column("split", "train, val or test")
    nwb.add_trial_column("success", "reached")
    nwb.add_trial_column("go_cue_time", "s, NaN where there was none")
    nwb.add_trial_column("num_targets", "how many")
    nwb.add_trial_column("note", "anything")
    nwb.add_trial_column("target_pos", "ragged", index=True)
    nwb.add_trial_column("corner", "two numbers a trial")
    for trial in range(TRIALS):
        nwb.add_trial(
            start_time=trial * 2.0,
            stop_time=trial * 2.0 + 1.5,
            split=["train", "val", "test"][trial % 3],
            success=bool(trial % 4),
            go_cue_time=trial * 2.0 + 0.5 if trial % 5 else float("nan"),
            num_targets=trial % 3 + 1,
            note=f"essai №{trial}",
            target_pos=[[float(target), -float(target)] for target in range(trial % 3 + 1)],
            corner=[1.0, float(trial)],
        )


def add_behavior(nwb, random):
    times = np.arange(20000) / 1000.0
    wave = np.stack([np.sin(times), np.cos(times)], 1)
    module = nwb.create_processing_module("behavior", "kinematics")
    position = SpatialSeries(
        name="hand_pos",
        data=H5DataIO(100.0 * wave, compression="gzip", compression_opts=4, shuffle=True, chunks=(4096, 2)),
        timestamps=H5DataIO(times, compression="gzip", chunks=(8192,)),
        reference_frame="centre of the screen",
        unit="mm",
    )
    module.add(Position(spatial_series=position))
    velocity = TimeSeries(name="hand_vel", data=(0.3 * wave).astype("f4"), timestamps=position, unit="m/s")
    module.add(BehavioralTimeSeries(time_series=velocity))
    eye = random.integers(-1000, 1000, (500, 2)).astype("i2")
    regular = {"starting_time": 0.5, "rate": 100.0}
    module.add(TimeSeries(name="eye_pos", data=eye, unit="deg", conversion=0.01, offset=2.0, **regular))
    module.add(TimeSeries(name="speed", data=np.full(300, 12.0), unit="millimeters/second", **regular))
    return {
        "hand_pos": {"unit": "m", "row": [float(value) for value in 0.1 * wave[1234]]},
        "hand_vel": {"unit": "m/s", "row": [float(value) for value in np.float32(0.3 * wave[1234])]},
        "eye_pos": {"unit": "deg", "row": [float(value) for value in eye[123] * 0.01 + 2.0]},
        "speed": {"unit": "m/s", "row": [0.012]},
    }


def make_foreign(path):
    """Stores the same content in the other forms that HDF5 has for it."""

    def restore(file, name, data, dtype):
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=np.asarray(data, dtype=dtype)).attrs.update(attributes)

    with h5py.File(path, "r+") as file:
        trials, units = file["intervals/trials"], file["units"]
        restore(trials, "split", [text for text in trials["split"][:]], "S5")
        restore(trials, "note", [text for text in trials["note"][:]], h5py.string_dtype("utf-8", 100))
        restore(trials, "success", trials["success"][:], "u1")
        restore(units, "heldout", units["heldout"][:], "u1")
        # The index's reference to the data survives only if the data stay where they are.
        restore(units, "spike_times_index", units["spike_times_index"][:], "i4")
        restore(file, "identifier", file["identifier"][()], h5py.string_dtype("ascii"))
        eye = file["processing/behavior/eye_pos"]
        for name in ("conversion", "offset"):
            eye["data"].attrs[name] = [eye["data"].attrs[name]]
        eye["data"].attrs["unit"] = np.array([b"deg"], dtype="S3")
        eye["starting_time"].attrs["rate"] = np.array([100], dtype="i4")


if __name__ == "__main__":
    path, bare = sys.argv[1], "--bare" in sys.argv[2:]
    generator = np.random.default_rng(0)
    nwb = recording("bare" if bare else "pynwb-1")
    expected = add_units(nwb, generator, bare)
    if not bare:
        add_trials(nwb)
        expected["trials"] = TRIALS
        expected["behavior"] = add_behavior(nwb, generator)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    if "--foreign" in sys.argv[2:]:
        make_foreign(path)
    print(json.dumps(expected))
