"""Reads estimates from ndtd over ZeroMQ and moves a cursor with those that may be trusted.

Example: python tests/python/read_estimates.py tcp://127.0.0.1:5571 --count 500
"""

import argparse

import numpy as np
import zmq

ESTIMATE_HEADER = np.dtype([
    ("magic", "S4"), ("version", "<u2"), ("kind", "<u2"), ("seq", "<u8"), ("stream", "<u8"), ("source_ns", "<i8"),
    ("arrival_ns", "<u8"), ("decoded_ns", "<u8"), ("published_ns", "<u8"), ("velocity_for_ns", "<i8"),
    ("clock_offset_ns", "<i8"), ("clock_uncertainty_ns", "<u8"), ("age_ns", "<i8"), ("units", "<u4"), ("dims", "<u2"),
    ("outputs", "<u2"), ("reasons", "<u4"), ("lag_bins", "<u2"), ("quality", "u1"), ("reserved", "u1"), ("bundle", "V32"),
])
GOOD, WARMUP, GAP, LATE, STALE, FAULT = range(6)
WIDTH_S = 0.02


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint")
    parser.add_argument("--count", type=int, default=500)
    arguments = parser.parse_args()

    subscriber = zmq.Context.instance().socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"ndt.estimate")
    subscriber.connect(arguments.endpoint)
    cursor, expected, qualities = np.zeros(2), None, [0] * 6
    for _ in range(arguments.count):
        topic, header, rates, outputs = subscriber.recv_multipart()
        header = np.frombuffer(header, ESTIMATE_HEADER)[0]
        if header["magic"] != b"NDTW" or header["version"] != 3 or header["kind"] != 2:
            raise SystemExit(f"expected an estimate of wire version 3, found version {header['version']}")
        rates, velocity = np.frombuffer(rates, "<f4"), np.frombuffer(outputs, "<f4")[: header["dims"]]
        run = (header["stream"], header["seq"])
        if expected is not None and run[0] == expected[0] and run[1] > expected[1]:
            print(f"lost {run[1] - expected[1]} estimates: this program does not keep up")
        expected = (run[0], run[1] + 1)
        qualities[header["quality"]] += 1
        # The velocity is safe to use in every estimate: where nothing was computed, it is the policy's. A cautious
        # program stops on a fault and while the source is silent, whatever the policy is.
        if header["quality"] in (GOOD, WARMUP, GAP, LATE):
            cursor += velocity[:2] * WIDTH_S
    print("good {} warmup {} gap {} late {} stale {} fault {}".format(*qualities))
    print(f"{len(rates)} rates, the highest {rates.max():.1f} spikes/s; cursor at {cursor.round(3).tolist()} m")


if __name__ == "__main__":
    main()
