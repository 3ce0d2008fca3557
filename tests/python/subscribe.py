"""Subscribes to a daemon with pyzmq and numpy alone and decodes its estimates by the dtypes of protocol/WIRE.md.

Example: python tests/python/subscribe.py tcp://127.0.0.1:5571 --count 100
Prints one JSON object: what came, in which order, and the last estimate.
"""

import argparse
import json

import numpy as np
import zmq

HEAD = [("magic", "S4"), ("version", "<u2"), ("kind", "<u2")]
ESTIMATE = np.dtype(HEAD + [
    ("seq", "<u8"), ("stream", "<u8"), ("source_ns", "<i8"), ("arrival_ns", "<u8"), ("decoded_ns", "<u8"),
    ("published_ns", "<u8"), ("velocity_for_ns", "<i8"), ("clock_offset_ns", "<i8"), ("clock_uncertainty_ns", "<u8"),
    ("age_ns", "<i8"), ("units", "<u4"), ("dims", "<u2"), ("outputs", "<u2"), ("reasons", "<u4"), ("lag_bins", "<u2"), ("quality", "u1"),
    ("reserved", "u1"), ("bundle", "V32"),
])
QUALITY = ["good", "warmup", "gap", "late", "stale", "fault"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--patience-s", type=float, default=30.0)
    arguments = parser.parse_args()

    subscriber = zmq.Context.instance().socket(zmq.SUB)
    subscriber.RCVTIMEO = int(1000 * arguments.patience_s)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"ndt.")
    subscriber.connect(arguments.endpoint)

    headers, description, rates, velocity = [], None, None, None
    while len(headers) < arguments.count:
        frames = subscriber.recv_multipart()
        if frames[0] == b"ndt.description":
            description = json.loads(frames[2])["estimates"]
            if not headers:
                print("ready", flush=True)
            continue
        topic, header, rates, outputs = frames
        assert topic == b"ndt.estimate" and len(header) == ESTIMATE.itemsize
        header = np.frombuffer(header, ESTIMATE)[0]
        assert header["magic"] == b"NDTW" and header["version"] == 3 and header["kind"] == 2
        rates, outputs = np.frombuffer(rates, "<f4"), np.frombuffer(outputs, "<f4")
        velocity = outputs[: header["dims"]]
        assert len(rates) == header["units"] and len(outputs) == header["outputs"] and len(velocity) == header["dims"]
        assert np.isfinite(rates).all() and np.isfinite(velocity).all() and (rates >= 0).all()
        assert header["arrival_ns"] <= header["decoded_ns"] <= header["published_ns"]
        headers.append(header)

    if description:
        assert [output["name"] for output in description["outputs"]] == ["vx", "vy", "vz"][: len(outputs)]
    headers = np.array(headers)
    qualities = [QUALITY[number] for number in headers["quality"]]
    print(json.dumps({
        "estimates": len(headers),
        "first_seq": int(headers["seq"][0]),
        "in_order": bool((np.diff(headers["seq"].astype(np.int64)) == 1).all()),
        "quality": {name: qualities.count(name) for name in QUALITY if name in qualities},
        "bundle": bytes(headers["bundle"][0]).hex(),
        "bundle_described": description["bundle"] if description else None,
        "units_described": len(description["unit-ids"]) if description else None,
        "last_source_ns": int(headers["source_ns"][-1]),
        "last_rates": [float(rate) for rate in rates],
        "last_velocity": [float(part) for part in velocity],
    }))


if __name__ == "__main__":
    main()
