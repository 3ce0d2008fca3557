"""Receives a daemon's streams with pylsl alone, by protocol/LSL.md, and prints what subscribe.py prints for a socket.

Example: python tests/python/lsl_subscribe.py ndtd --count 100
Prints `ready` when both streams are open, then one JSON object with the first estimates in the order in which they came.
"""

import argparse
import json

import pylsl

QUALITY = ["good", "warmup", "gap", "late", "stale", "fault"]


def open_stream(name, patience_s):
    found = pylsl.resolve_byprop("name", name, 1, patience_s)
    assert len(found) == 1, f"expected one stream {name}, found {len(found)}"
    inlet = pylsl.StreamInlet(found[0], 360, 1)
    inlet.open_stream(patience_s)
    return inlet


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the daemon's output")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--patience-s", type=float, default=30.0)
    arguments = parser.parse_args()

    velocity = open_stream(arguments.name + "-velocity", arguments.patience_s)
    rates = open_stream(arguments.name + "-rates", arguments.patience_s)
    print("ready", flush=True)

    samples = []
    while len(samples) < arguments.count:
        # The last channels of a velocity sample are quality, reasons and bin number.
        sample, stamp = velocity.pull_sample(timeout=arguments.patience_s)
        assert stamp is not None, f"expected {arguments.count} estimates, found {len(samples)}"
        samples.append(sample)

    numbers = [int(sample[-1]) for sample in samples]
    qualities = [QUALITY[int(sample[-3])] for sample in samples]
    description = velocity.info().desc()
    print(json.dumps({
        "estimates": len(samples),
        "first_seq": numbers[0],
        "in_order": numbers == list(range(numbers[0], numbers[0] + len(numbers))),
        "quality": {name: qualities.count(name) for name in QUALITY if name in qualities},
        "bundle_described": description.child_value("bundle"),
        "units_described": rates.info().channel_count(),
    }))


if __name__ == "__main__":
    main()
