"""A rig and a receiver in pylsl and numpy alone: offers counts as a stream, receives the daemon's, by protocol/LSL.md.

The same seeded counts go out in one of several forms (MODES); prints one JSON object with what came back. The stream is
offered before anything else, so that a daemon may wait for it; nothing is sent before the daemon's streams are open.
"""

import argparse
import json
import math
import random
import statistics
import threading
import time

import numpy as np
import pylsl

WIDTH_S = 0.02
LOST = (40, 41)
MODES = ["plain", "lossy", "unlabelled", "permuted", "int16-200hz", "int8-1khz", "events"]


def offer(name, mode, order, ids):
    parts = {"int16-200hz": 4, "int8-1khz": 20}.get(mode, 1)
    form = {"int16-200hz": "int16", "int8-1khz": "int8", "events": "int32"}.get(mode, "float32")
    if mode == "events":
        return pylsl.StreamOutlet(pylsl.StreamInfo(name, "Spikes", 1, 0.0, form, name + "-id"), 1, 360), parts
    info = pylsl.StreamInfo(name, "BinnedSpikes", len(ids), parts / WIDTH_S, form, name + "-id")
    if mode != "unlabelled":
        channels = info.desc().append_child("channels")
        for channel in order:
            channels.append_child("channel").append_child_value("label", str(ids[channel]))
    return pylsl.StreamOutlet(info, 1, 10), parts


def wait_until(instant):
    while (left := instant - pylsl.local_clock()) > 0:
        time.sleep(left)


def send(outlet, parts, mode, order, counts, begin):
    """Bin k is [begin + k * WIDTH_S, begin + (k + 1) * WIDTH_S); a sample is stamped with its end."""
    draw = random.Random(2)
    for bin, row in enumerate(counts):
        start = begin + bin * WIDTH_S
        if mode == "lossy" and bin in LOST:
            continue
        if mode == "events":
            spikes = [(start + draw.uniform(0.05, 0.95) * WIDTH_S, channel)
                      for channel, count in enumerate(row) for _ in range(count)]
            for stamp, channel in sorted(spikes):
                wait_until(stamp)
                outlet.push_sample([channel], stamp)
            continue
        # All of a bin's spikes are in one of its parts, each time another.
        for part in range(parts):
            end = start + (part + 1) * WIDTH_S / parts
            wait_until(end)
            sample = row[order] if part == bin % parts else np.zeros_like(row)
            outlet.push_sample(sample.tolist(), end)


def receive(name, wanted):
    found = pylsl.resolve_byprop("name", name, 1, 30)
    assert len(found) == 1, f"one stream {name}"
    inlet = pylsl.StreamInlet(found[0], 360, 1)
    inlet.open_stream(10)
    info, samples = inlet.info(), []

    def pull():
        while len(samples) < wanted:
            values, stamp = inlet.pull_sample(timeout=5)
            if stamp is None:
                return
            samples.append((stamp, values))

    thread = threading.Thread(target=pull)
    thread.start()
    return info, samples, thread


def described(info):
    desc, channels = info.desc(), []
    channel = desc.child("channels").child("channel")
    while not channel.empty():
        channels.append([channel.child_value(key) for key in ("label", "unit", "type")])
        channel = channel.next_sibling("channel")
    keys = ("bundle", "bin_width_ms", "time_stamp", "velocity_offset_ms", "velocity_lag_ms", "quality")
    return {"name": info.name(), "type": info.type(), "rate": info.nominal_srate(), "source_id": info.source_id(),
            "float32": info.channel_format() == pylsl.cf_float32, "channels": channels,
            "entries": {key: desc.child_value(key) for key in keys}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("output", help="name of the daemon's output")
    parser.add_argument("--mode", choices=MODES, default="plain")
    parser.add_argument("--ids", type=lambda text: [int(id) for id in text.split(",")], required=True)
    parser.add_argument("--bins", type=int, default=60)
    arguments = parser.parse_args()
    ids, mode, bins = arguments.ids, arguments.mode, arguments.bins
    order = list(range(len(ids)))
    if mode == "permuted":
        random.Random(3).shuffle(order)
    outlet, parts = offer(arguments.name, mode, order, ids)
    print("offered", flush=True)
    # Of spikes, the first and the last bin are not whole.
    wanted = bins if mode != "events" else bins - 2
    velocity, velocities, thread = receive(arguments.output + "-velocity", wanted)
    rates, rate_samples, rates_thread = receive(arguments.output + "-rates", wanted)
    outlet.wait_for_consumers(60)
    # A receiver is there before it is ready.
    time.sleep(0.5)
    counts = np.random.default_rng(1).poisson(0.4, (bins, len(ids))).astype(int)
    begin = math.ceil(pylsl.local_clock() / WIDTH_S + 2) * WIDTH_S
    send(outlet, parts, mode, order, counts, begin)
    thread.join()
    rates_thread.join()

    # The daemon numbers from the bin that it had first; which of ours that is, stamps say: most of them, as the first
    # are from before the clocks were compared.
    place = [(stamp - begin) / WIDTH_S - 1 for stamp, _ in velocities]
    bins_of = [int(values[-1]) for _, values in velocities]
    shift = round(statistics.median(at - bin for at, bin in zip(place, bins_of)))
    numbers = [bin + shift for bin in bins_of]
    last = {number: values for number, (_, values) in zip(numbers, rate_samples) if 30 <= number < bins - 2}
    print(json.dumps({
        "estimates": len(velocities),
        "numbers": [numbers[0], numbers[-1]],
        "consecutive": bins_of == list(range(len(bins_of))),
        "stamps_off_s": max(abs(at - number) * WIDTH_S for at, number in zip(place, numbers)),
        "same_stamps": [stamp for stamp, _ in velocities] == [stamp for stamp, _ in rate_samples],
        "qualities": {int(q): int(n) for q, n in zip(*np.unique([v[-3] for _, v in velocities], return_counts=True))},
        "velocity": described(velocity),
        "rates": described(rates),
        "last_rates": [last[at] for at in sorted(last)],
    }))


if __name__ == "__main__":
    main()
