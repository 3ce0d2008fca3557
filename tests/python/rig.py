"""A rig in pyzmq and numpy alone: sends bins by the dtypes of protocol/WIRE.md, good and bad, and reads the estimates.

Prints the address that it publishes bins on, reads the daemon's output address from standard input, waits until
both sides are connected, sends, and prints one JSON object with what came back.
"""

import json
import sys

import numpy as np
import zmq

from subscribe import ESTIMATE, HEAD, QUALITY

BIN = np.dtype(HEAD + [
    ("seq", "<u8"), ("stream", "<u8"), ("source_ns", "<i8"), ("sent_ns", "<u8"), ("bin_width_us", "<u4"),
    ("channels", "<u4"), ("flags", "<u4"), ("reserved", "<u4"),
])


def bin_frames(seq, counts, /, **changed):
    header = np.zeros((), BIN)
    header["magic"], header["version"], header["kind"] = b"NDTW", 3, 1
    header["seq"], header["stream"], header["source_ns"] = seq, 7, 20_000_000 * (seq + 1)
    header["bin_width_us"], header["channels"], header["flags"] = 20_000, len(counts), int(seq == 0)
    for field, value in changed.items():
        header[field] = value
    return [b"ndt.bin", header.tobytes(), np.asarray(counts, "<f4").tobytes()]


def description(channel_ids):
    header = np.array((b"NDTW", 3, 3, 7), HEAD + [("stream", "<u8")])
    bins = {"bin-width-us": 20_000, "channel-ids": channel_ids}
    return [b"ndt.description", header.tobytes(), json.dumps({"bins": bins}).encode()]


def bad_messages(channels):
    good = bin_frames(0, np.zeros(channels))
    return [
        good[:2],
        good + [b"more"],
        [good[0], good[1][:10], good[2]],
        [good[0], good[1] + b"\0", good[2]],
        [good[0], good[1], good[2][:-1]],
        bin_frames(0, np.zeros(channels), magic=b"XXXX"),
        bin_frames(0, np.zeros(channels), version=2),
        bin_frames(0, np.zeros(channels), kind=9),
        bin_frames(0, np.zeros(channels), bin_width_us=3_000),
        bin_frames(0, np.zeros(channels + 1)),
        [b"ndt.something else"],
    ]


def main():
    channels, bins = int(sys.argv[1]), int(sys.argv[2])
    context = zmq.Context.instance()
    rig = context.socket(zmq.XPUB)
    port = rig.bind_to_random_port("tcp://127.0.0.1")
    print(f"tcp://127.0.0.1:{port}", flush=True)

    listener = context.socket(zmq.SUB)
    listener.RCVTIMEO = 30_000
    listener.setsockopt(zmq.SUBSCRIBE, b"ndt.")
    listener.connect(sys.stdin.readline().strip())
    while listener.recv_multipart()[0] != b"ndt.description":
        pass
    assert rig.recv().startswith(b"\x01"), "the daemon subscribes"

    random = np.random.default_rng(1)
    bad = bad_messages(channels)
    for seq in range(bins):
        if seq == 20:
            rig.send_multipart(description(list(range(channels))))
        if seq % 5 == 2 and bad:
            rig.send_multipart(bad.pop(0))
        counts = random.poisson(0.3, channels).astype("f4")
        if seq == 30:
            counts[0] = np.nan
        rig.send_multipart(bin_frames(seq, counts))

    headers, rates, velocities = [], [], []
    while len(headers) < bins:
        frames = listener.recv_multipart()
        if frames[0] == b"ndt.estimate":
            headers.append(np.frombuffer(frames[1], ESTIMATE)[0])
            rates.append(np.frombuffer(frames[2], "<f4"))
            velocities.append(np.frombuffer(frames[3], "<f4"))
    headers = np.array(headers)
    qualities = [QUALITY[number] for number in headers["quality"]]
    print(json.dumps({
        "estimates": len(headers),
        "in_order": headers["seq"].tolist() == list(range(bins)),
        "bad_left": len(bad),
        "invalid_channels_at": [int(h["seq"]) for h in headers if h["reasons"] & (1 << 4)],
        "undescribed_at": [int(h["seq"]) for h in headers if h["reasons"] & (1 << 15)],
        "fault_at": [int(h["seq"]) for h in headers if h["quality"] == 5],
        "still": bool((np.array(velocities)[:20] == 0).all()),
        "good": qualities.count("good"),
        "finite": bool(np.isfinite(rates).all()),
        "stamps_ascend": bool(((headers["arrival_ns"] <= headers["decoded_ns"])
                               & (headers["decoded_ns"] <= headers["published_ns"])).all()),
    }))


if __name__ == "__main__":
    main()
