"""A rig and a viewer in pyzmq that encrypt (CURVE), and a stranger whose key the daemon does not permit.

Arguments: folder with the certificates of `ndtd keygen`, address to send bins on, address of the daemon's estimates, number of
channels, number of bins. Prints one JSON object: how many estimates the viewer got, and how many messages the stranger got.
"""

import json
import pathlib
import sys
import time

import numpy as np
import zmq
import zmq.auth

from rig import bin_frames, description
from subscribe import ESTIMATE, QUALITY


def own(socket, folder, name):
    socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(folder / f"{name}.key_secret")


def viewer(context, folder, name, output):
    socket = context.socket(zmq.SUB)
    own(socket, folder, name)
    socket.curve_serverkey, _ = zmq.auth.load_certificate(folder / "ndtd.key")
    socket.subscribe(b"ndt.")
    socket.connect(output)
    return socket


def main():
    folder, bins_to, output = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    channels, bins = int(sys.argv[4]), int(sys.argv[5])
    context = zmq.Context.instance()
    rig = context.socket(zmq.XPUB)
    own(rig, folder, "rig")
    rig.curve_server = True
    rig.bind(bins_to)
    friend = viewer(context, folder, "viewer", output)
    stranger = viewer(context, folder, "stranger", output)
    assert friend.poll(60_000), "expected the daemon's description"
    assert rig.poll(60_000) and rig.recv().startswith(b"\x01"), "expected the daemon to subscribe"
    random = np.random.default_rng(1)
    rig.send_multipart(description(list(range(channels))))
    estimates, good = [], 0
    for seq in range(bins):
        rig.send_multipart(bin_frames(seq, random.poisson(0.3, channels)))
        time.sleep(0.005)
    while len(estimates) < bins and friend.poll(60_000):
        frames = friend.recv_multipart()
        if frames[0] == b"ndt.estimate":
            header = np.frombuffer(frames[1], ESTIMATE)[0]
            estimates.append(int(header["seq"]))
            good += QUALITY[header["quality"]] in ("good", "warmup", "late", "stale", "gap")
    print(json.dumps({"estimates": len(estimates), "read": good, "to the stranger": stranger.poll(0)}))


if __name__ == "__main__":
    main()
