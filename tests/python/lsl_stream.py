"""Offers a stream of counts until it is killed; without --silent it sends a sample of ones each 20 ms, or each --period-ms, stamped when
sent.

Prints one line once it is offered.
"""

import argparse
import itertools
import time

import pylsl


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("source_id")
    parser.add_argument("channels", type=int)
    parser.add_argument("--format", default="float32")
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--period-ms", type=float, default=20.0)
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--labels", type=lambda text: text.split(","), default=[], help="labels of all channels; none without")
    arguments = parser.parse_args()
    kind = (arguments.channels, arguments.rate, arguments.format, arguments.source_id)
    info = pylsl.StreamInfo(arguments.name, "BinnedSpikes", *kind)
    if arguments.labels:
        channels = info.desc().append_child("channels")
        for label in arguments.labels:
            channels.append_child("channel").append_child_value("label", label)
    outlet = pylsl.StreamOutlet(info, 1, 10)
    print("offered", flush=True)
    begin = pylsl.local_clock()
    for number in itertools.count(1):
        due = begin + number * arguments.period_ms * 1e-3
        time.sleep(max(0.0, due - pylsl.local_clock()))
        if not arguments.silent:
            outlet.push_sample([1] * arguments.channels, due)


if __name__ == "__main__":
    main()
