"""Records streams to an XDF file as a recorder does (headers as sent, raw stamps, clock offsets beside them), opens it
with pyxdf, and prints what that finds as one JSON object.

Example: python tests/python/lsl_record.py FILE.xdf --samples 100 ndtd-velocity ndtd-rates
"""

import argparse
import json
import struct
import threading

import numpy as np
import pylsl
import pyxdf

FILE_HEADER, STREAM_HEADER, SAMPLES, CLOCK_OFFSET, STREAM_FOOTER = 1, 2, 3, 4, 6


def length(value):
    return struct.pack("<BQ", 8, value)


class Recorder:
    def __init__(self, path):
        self.file, self.lock = open(path, "wb"), threading.Lock()
        self.file.write(b"XDF:")
        self.chunk(FILE_HEADER, b'<?xml version="1.0"?><info><version>1.0</version></info>')

    def chunk(self, tag, content):
        with self.lock:
            self.file.write(length(len(content) + 2) + struct.pack("<H", tag) + content)

    def record(self, number, inlet, wanted):
        """Runs on a thread for each stream."""
        stream = struct.pack("<I", number)
        info = inlet.info()
        self.chunk(STREAM_HEADER, stream + info.as_xml().encode())
        stamps, offset = [], inlet.time_correction(timeout=10)
        self.chunk(CLOCK_OFFSET, stream + struct.pack("<dd", pylsl.local_clock() - offset, offset))
        while len(stamps) < wanted:
            values, stamp = inlet.pull_sample(timeout=10)
            assert stamp is not None, f"{wanted} samples of {info.name()}, found {len(stamps)}"
            sample = struct.pack("<Bd", 8, stamp) + np.asarray(values, "<f4").tobytes()
            self.chunk(SAMPLES, stream + length(1) + sample)
            stamps.append(stamp)
        offset = inlet.time_correction(timeout=10)
        self.chunk(CLOCK_OFFSET, stream + struct.pack("<dd", pylsl.local_clock() - offset, offset))
        footer = (f"<info><first_timestamp>{stamps[0]}</first_timestamp><last_timestamp>{stamps[-1]}</last_timestamp>"
                  f"<sample_count>{len(stamps)}</sample_count></info>")
        self.chunk(STREAM_FOOTER, stream + b'<?xml version="1.0"?>' + footer.encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("names", nargs="+")
    parser.add_argument("--samples", type=int, default=100)
    arguments = parser.parse_args()
    recorder, threads = Recorder(arguments.file), []
    for number, name in enumerate(arguments.names, 1):
        inlet = pylsl.StreamInlet(pylsl.resolve_byprop("name", name, 1, 30)[0], 360, 1)
        inlet.open_stream(10)
        threads.append(threading.Thread(target=recorder.record, args=(number, inlet, arguments.samples)))
    print("recording", flush=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.file.close()

    streams, _ = pyxdf.load_xdf(arguments.file)
    found = {}
    for stream in streams:
        info = stream["info"]
        channels = info["desc"][0]["channels"][0]["channel"]
        found[info["name"][0]] = {
            "type": info["type"][0],
            "labels": [channel["label"][0] for channel in channels],
            "units": sorted({channel["unit"][0] or "" for channel in channels}),
            "bundle": info["desc"][0]["bundle"][0],
            "nominal_rate": float(info["nominal_srate"][0]),
            "effective_rate": float(info["effective_srate"]),
            "shape": list(stream["time_series"].shape),
            "dtype": str(stream["time_series"].dtype),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
