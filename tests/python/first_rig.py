"""A rig for a first session: sends made-up spike counts to ndtd over ZeroMQ, one bin every 20 ms.

Example: python tests/python/first_rig.py tcp://127.0.0.1:5570 --bundle model --seconds 10
"""

import argparse
import json
import pathlib
import time
import tomllib

import numpy as np
import zmq

WIDTH_NS = 20_000_000
HEAD = [("magic", "S4"), ("version", "<u2"), ("kind", "<u2")]
BIN_HEADER = np.dtype(HEAD + [
    ("seq", "<u8"), ("stream", "<u8"), ("source_ns", "<i8"), ("sent_ns", "<u8"), ("bin_width_us", "<u4"),
    ("channels", "<u4"), ("flags", "<u4"), ("reserved", "<u4"),
])


def spikes_of_last_bin(random, channels):
    """Replace this by your own: for each channel, in the bundle's order, its spikes in the bin that has just ended."""
    return random.poisson(0.12, channels)


def description(stream, channel_ids):
    """What the bins of a stream consist of. The daemon refuses a stream whose channel ids are not its model's, in order, and does not
    call an estimate good before it has read this."""
    header = np.array((b"NDTW", 3, 3, stream), HEAD + [("stream", "<u8")])
    bins = {"bin-width-us": WIDTH_NS // 1000, "channel-ids": channel_ids}
    return [b"ndt.description", header.tobytes(), json.dumps({"bins": bins}).encode()]


def has_new_subscriber(publisher):
    """Whether a program has subscribed since the last call."""
    has_new = False
    while publisher.poll(0):
        has_new |= publisher.recv().startswith(b"\x01")  # 0 in place of the 1 ends a subscription
    return has_new


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint")
    parser.add_argument("--bundle", type=pathlib.Path, required=True, help="folder of the model, for its channel ids")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()

    channel_ids = tomllib.loads((arguments.bundle / "manifest.toml").read_text())["channel-ids"]
    publisher = zmq.Context.instance().socket(zmq.XPUB)  # a PUB socket that also receives the subscriptions
    publisher.setsockopt(zmq.XPUB_VERBOSE, 1)  # every one of them
    publisher.bind(arguments.endpoint)
    print("waiting for a subscriber", flush=True)
    publisher.poll()  # what is sent before the daemon has subscribed reaches nobody
    random = np.random.default_rng()
    stream = time.time_ns()  # a new number for each run of the rig
    start_ns = time.monotonic_ns()
    for seq in range(round(arguments.seconds * 1e9) // WIDTH_NS):
        end_ns = start_ns + (seq + 1) * WIDTH_NS  # on a fixed grid, so that the rate does not drift
        time.sleep(max(0, end_ns - time.monotonic_ns()) * 1e-9)
        if has_new_subscriber(publisher) or seq % 50 == 0:
            publisher.send_multipart(description(stream, channel_ids))
        counts = spikes_of_last_bin(random, len(channel_ids))
        header = np.zeros((), BIN_HEADER)
        header["magic"], header["version"], header["kind"] = b"NDTW", 3, 1
        header["seq"], header["stream"] = seq, stream
        header["source_ns"], header["sent_ns"] = end_ns, time.monotonic_ns()
        header["bin_width_us"], header["channels"] = WIDTH_NS // 1000, len(counts)
        header["flags"] = 1 if seq == 0 else 0  # the first bin of a recording, or of a trial cut out of one
        publisher.send_multipart([b"ndt.bin", header.tobytes(), np.asarray(counts, "<f4").tobytes()])
    publisher.close(linger=1000)


if __name__ == "__main__":
    main()
