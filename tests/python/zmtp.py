"""ZeroMQ's bytes on a bare socket, for programs that break its rules: ZMTP 3.0 as its specification has it, without a library."""

import socket
import struct
import urllib.parse

MORE, LONG, COMMAND = 1, 2, 4
SUBSCRIBE = b"\x01"


def greeting(major=3, minor=0, mechanism=b"NULL", as_server=0):
    """The 64 bytes with which a peer of ZMTP 3 begins."""
    version = bytes((major, minor))
    return b"\xff" + bytes(8) + b"\x7f" + version + mechanism.ljust(20, b"\0") + bytes((as_server,)) + bytes(31)


def header(flags, length):
    """The header of a frame of `length` bytes, which need not follow."""
    if length < 256:
        return struct.pack(">BB", flags, length)
    return struct.pack(">BQ", flags | LONG, length)


def frame(body, flags=0):
    return header(flags, len(body)) + body


def command(name, body=b""):
    return frame(bytes((len(name),)) + name + body, COMMAND)


def metadata(name, value):
    return bytes((len(name),)) + name + struct.pack(">I", len(value)) + value


def ready(kind=b"SUB", more=b""):
    """The command that ends a handshake without a mechanism; `kind` is the type of the peer's own socket."""
    return command(b"READY", metadata(b"Socket-Type", kind) + metadata(b"Identity", b"") + more)


class Peer:
    """A connection to a ZeroMQ socket. Every method may raise OSError: the other side may hang up whenever it likes."""

    def __init__(self, address, timeout=2.0, receive_buffer=None):
        parts = urllib.parse.urlsplit(address)
        family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect((parts.hostname, parts.port))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def read(self, length):
        """Exactly so many bytes."""
        bytes_read = b""
        while len(bytes_read) < length:
            part = self.socket.recv(length - len(bytes_read))
            if not part:
                raise ConnectionError("the other side has hung up")
            bytes_read += part
        return bytes_read

    def read_frame(self):
        flags = self.read(1)[0]
        length = struct.unpack(">Q", self.read(8))[0] if flags & LONG else self.read(1)[0]
        return flags, self.read(length)

    def shake_hands(self, kind=b"SUB", more=b""):
        """The whole handshake of a socket of this type."""
        self.send(greeting())
        self.read(64)
        self.send(ready(kind, more))
        self.read_frame()

    def subscribe(self, prefix=b"ndt."):
        self.send(frame(SUBSCRIBE + prefix))

    def reset(self):
        """Hangs up as a computer that was switched off and on: without the bytes that end a connection in order."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
