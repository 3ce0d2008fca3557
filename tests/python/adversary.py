"""Does to a running daemon what nobody should: one behaviour, by its name and from a seed, for some seconds.

Example: python tests/python/adversary.py http --seed 1 --input tcp://127.0.0.1:5570 --output tcp://127.0.0.1:5571
`--list` prints every behaviour. The input is the address that the daemon has bound (`--input bind:tcp://...`). Ends with
status 0, or 1 if the daemon did to this peer what it should do to nobody; what was seen is the last line on standard output.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import zmq

import zmtp
from rig import bin_frames, description
from subscribe import ESTIMATE
from zmtp import Peer

BEHAVIOURS = {}
FRAME_OF_2_60 = zmtp.header(0, 1 << 60)
BIN_NS = 5_000_000


def behaviour(function):
    """Adds a function to the list, under its name with hyphens. It is called again and again until the time is over; its
    documentation is the sentence of the list."""
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


class Target:
    """The daemon: where it is, and how long it is to be bothered."""

    def __init__(self, arguments):
        self.input, self.output, self.pid, self.lsl = arguments.input, arguments.output, arguments.pid, arguments.lsl
        self.channels = arguments.channels
        self.random = random.Random(arguments.seed)
        self.seconds = arguments.seconds
        self.end = time.monotonic() + arguments.seconds
        self.seen = {}
        self.fault = None

    def left(self):
        return max(0.0, self.end - time.monotonic())

    def hold(self):
        """Keeps what is open until the time is over."""
        time.sleep(self.left())

    def both(self):
        return self.random.choice((self.input, self.output))

    def count(self, what, by=1):
        self.seen[what] = self.seen.get(what, 0) + by

    def socket(self, kind, address, **options):
        """A pyzmq socket that is connected, or is trying to be."""
        opened = zmq.Context.instance().socket(kind)
        opened.LINGER = 0
        for name, value in options.items():
            setattr(opened, name, value)
        opened.connect(address)
        return opened

    def publisher(self):
        """A second rig: connected, and subscribed to by the daemon. None if that does not come about in time."""
        rig = self.socket(zmq.XPUB, self.input, SNDHWM=1000)
        if not rig.poll(1000 * self.left()):
            rig.close()
            return None
        return rig

    def bins(self, stream, begin=0):
        """The bins of a second rig of the same channels, without end."""
        seq = begin
        while True:
            yield bin_of(self, seq, stream)
            seq += 1


def bin_of(target, seq, stream, counts=None, **changed):
    counts = np.ones(target.channels) if counts is None else counts
    source_ns = min(BIN_NS * (seq + 1), 2**63 - 1)
    fields = {"seq": seq, "stream": stream, "source_ns": source_ns, "bin_width_us": BIN_NS // 1000, "flags": int(seq == 0)}
    return bin_frames(0, counts, **fields | changed)


def description_of(target, stream, channel_ids=None):
    """The description of a stream of a second rig, by default one of the model's channels."""
    topic, header, body = description(list(range(target.channels)) if channel_ids is None else channel_ids)
    return [topic, header[:8] + stream.to_bytes(8, "little"), body]


def paced(target, messages, period_s=BIN_NS * 1e-9):
    """Yields a message each period until the time is over."""
    due = time.monotonic()
    for message in messages:
        due += period_s
        if max(due, time.monotonic()) > target.end:
            return
        time.sleep(max(0.0, due - time.monotonic()))
        yield message


def as_second_rig(target, messages, stream=None, period_s=BIN_NS * 1e-9):
    """Sends messages to the bound input beside the rig, until the time is over, behind a description of `stream`."""
    rig = target.publisher()
    if rig is None:
        return
    if stream is not None:
        rig.send_multipart(description_of(target, stream))
    for message in paced(target, messages, period_s):
        rig.send_multipart(message)
        target.count("sent")
    rig.close()


def peers(target, count, address, act):
    """Opens so many connections, however long that takes, does `act` with each, and keeps them until the time is over."""
    kept = []
    for _ in range(count):
        try:
            peer = Peer(address())
        except OSError:
            target.count("refused")
            continue
        kept.append(peer)
        try:
            act(peer)
            target.count("kept")
        except OSError:
            target.count("cut")
    target.hold()
    for peer in kept:
        peer.socket.close()


def endless_subscriber(target, **options):
    """Reads estimates until the time is over; returns how many came, and how many numbers were left out."""
    subscriber = target.socket(zmq.SUB, target.output, **options)
    subscriber.subscribe(b"ndt.estimate")
    events = subscriber.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    last = None
    while target.left() > 0:
        if subscriber.poll(100):
            estimate = np.frombuffer(subscriber.recv_multipart()[1], ESTIMATE)[0]
            seq = int(estimate["seq"])
            target.count("received")
            target.count("lost", 0 if last is None else max(0, seq - last - 1))
            last = seq
    while events.poll(0):
        events.recv_multipart()
        target.count("cut off")
    subscriber.close()
    return target.seen.get("cut off", 0)


# ---- What is no ZeroMQ, or breaks its rules.


@behaviour
def huge_frame_before_handshake(target):
    """Sends a greeting, and the header of a frame of 2^60 bytes in place of the handshake."""
    with Peer(target.both()) as peer:
        peer.send(zmtp.greeting(), FRAME_OF_2_60, target.random.randbytes(1000))
        peer.read(64)
        time.sleep(min(0.1, target.left()))


@behaviour
def huge_frame_after_handshake(target):
    """Shakes hands with the output, and then claims a message of 2^60 bytes."""
    with Peer(target.output) as peer:
        peer.shake_hands()
        peer.send(FRAME_OF_2_60, target.random.randbytes(1000))
        time.sleep(min(0.1, target.left()))


@behaviour
def huge_frame_on_input(target):
    """Shakes hands with the bound input as a rig does, and then claims a bin of 2^60 bytes."""
    with Peer(target.input) as peer:
        peer.shake_hands(b"PUB")
        peer.send(zmtp.frame(b"ndt.bin", zmtp.MORE), FRAME_OF_2_60, target.random.randbytes(1000))
        time.sleep(min(0.1, target.left()))


@behaviour
def huge_command(target):
    """Claims a command of 2^60 bytes, or of 2^63 + 1, before or after the handshake."""
    with Peer(target.both()) as peer:
        if target.random.random() < 0.5:
            peer.shake_hands(target.random.choice((b"SUB", b"PUB")))
        else:
            peer.send(zmtp.greeting())
        length = target.random.choice((1 << 60, (1 << 63) + 1, (1 << 64) - 1))
        peer.send(zmtp.header(zmtp.COMMAND, length), b"\x05READY")
        time.sleep(min(0.1, target.left()))


@behaviour
def half_greeting(target):
    """200 connections whose greeting stops after 1 to 63 bytes, and that stay open."""
    peers(target, 200, target.both, lambda peer: peer.send(zmtp.greeting()[: target.random.randint(1, 63)]))


@behaviour
def silent_connections(target):
    """200 connections that send nothing at all."""
    peers(target, 200, target.both, lambda peer: None)


@behaviour
def slow_greeting(target):
    """A greeting and a handshake of one byte every 20 ms."""
    with Peer(target.both()) as peer:
        for byte in zmtp.greeting() + zmtp.ready():
            peer.send(bytes((byte,)))
            time.sleep(min(0.02, target.left()))
            if target.left() == 0:
                return


@behaviour
def drip(target):
    """A message of 60,000 bytes that arrives one byte every 5 ms."""
    with Peer(target.output) as peer:
        peer.shake_hands()
        peer.send(zmtp.header(0, 60_000), zmtp.SUBSCRIBE)
        while target.left() > 0:
            peer.send(b"n")
            time.sleep(0.005)


@behaviour
def half_message(target):
    """100 subscribers that announce a message of 60,000 bytes, send ten, and stay."""

    def act(peer):
        peer.shake_hands()
        peer.send(zmtp.header(0, 60_000), b"\x01ndt.estim")

    peers(target, 100, lambda: target.output, act)


@behaviour
def many_connections(target):
    """2,000 connections to the output and the input, a quarter of them subscribed."""

    def act(peer):
        if target.random.random() < 0.25:
            peer.send(zmtp.greeting(), zmtp.ready(), zmtp.frame(zmtp.SUBSCRIBE + b"ndt."))

    peers(target, 2000, target.both, act)


@behaviour
def http(target):
    """A web browser: HTTP requests to both ports."""
    with Peer(target.both()) as peer:
        method = target.random.choice(("GET", "POST", "OPTIONS"))
        peer.send(f"{method} / HTTP/1.1\r\nHost: ndtd\r\nUser-Agent: {'x' * 300}\r\n\r\n".encode())
        peer.socket.recv(100)


@behaviour
def tls(target):
    """A port scanner: the first message of a TLS connection to both ports."""
    with Peer(target.both()) as peer:
        body = b"\x03\x03" + target.random.randbytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + b"\0\0"
        hello = b"\x01" + len(body).to_bytes(3, "big") + body
        peer.send(b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello)
        peer.socket.recv(100)


@behaviour
def random_bytes(target):
    """Random bytes: at once, after the greeting, or after the handshake."""
    with Peer(target.both()) as peer:
        at = target.random.randrange(3)
        if at == 1:
            peer.send(zmtp.greeting())
        elif at == 2:
            peer.shake_hands(target.random.choice((b"SUB", b"XSUB", b"PUB", b"XPUB")))
        peer.send(target.random.randbytes(target.random.randint(1, 20_000)))
        peer.socket.recv(100)


@behaviour
def connection_storm(target):
    """Connects and hangs up as fast as it can, at any point of the handshake."""
    peer = Peer(target.both())
    whole = zmtp.greeting() + zmtp.ready() + zmtp.frame(zmtp.SUBSCRIBE + b"ndt.")
    peer.send(whole[: target.random.randint(0, len(whole))])
    peer.reset() if target.random.random() < 0.5 else peer.socket.close()
    target.count("connections")


@behaviour
def half_open(target):
    """50 subscribers that close their side of the connection and keep the other open."""

    def act(peer):
        peer.shake_hands()
        peer.subscribe()
        peer.socket.shutdown(1)

    peers(target, 50, lambda: target.output, act)


@behaviour
def zmtp_2_peers(target):
    """Subscribers of ZMTP 2.0 and 1.0, as libzmq 3.2 and 2.2 were, which read what comes."""
    with Peer(target.output) as peer:
        if target.random.random() < 0.5:
            peer.send(b"\xff" + bytes(7) + b"\x01\x7f\x01\x02\0\0")
        else:
            peer.send(b"\x01\0")
        peer.send(zmtp.frame(zmtp.SUBSCRIBE + b"ndt."))
        for _ in range(20):
            if target.left() > 0 and peer.socket.recv(4096):
                target.count("read")


@behaviour
def other_versions(target):
    """Greetings of ZMTP 4 and 255, of unknown mechanisms, and of CURVE and PLAIN without keys."""
    with Peer(target.both()) as peer:
        mechanism = target.random.choice((b"NULL", b"PLAIN", b"CURVE", b"GSSAPI", b"\xff" * 20))
        peer.send(zmtp.greeting(target.random.choice((0, 3, 4, 255)), target.random.randrange(256), mechanism))
        peer.send(zmtp.command(target.random.choice((b"HELLO", b"INITIATE", b"READY")), target.random.randbytes(200)))
        peer.socket.recv(100)
        time.sleep(min(0.01, target.left()))


@behaviour
def huge_metadata(target):
    """READY with metadata of 60,000 bytes, of 1,000 properties, and of a property longer than the command."""
    with Peer(target.both()) as peer:
        peer.send(zmtp.greeting())
        peer.read(64)
        more = target.random.choice((
            zmtp.metadata(b"X" * 255, b"x" * 60_000),
            b"".join(zmtp.metadata(b"X-%d" % number, b"x" * 50) for number in range(1000)),
            b"\x04name" + (1 << 31).to_bytes(4, "big") + b"x",
        ))
        peer.send(zmtp.ready(target.random.choice((b"SUB", b"PUB")), more))
        peer.socket.recv(100)


@behaviour
def long_pings(target):
    """PINGs at full speed with contexts of 0, 16 and 60,000 bytes; the PONGs are not read."""
    with Peer(target.both(), timeout=min(0.5, target.left() + 0.01)) as peer:
        peer.shake_hands(target.random.choice((b"SUB", b"PUB")))
        for _ in range(500):
            context = bytes(target.random.choice((0, 16, 60_000)))
            peer.send(zmtp.command(b"PING", b"\0\x0a" + context))
            target.count("pings")


@behaviour
def unknown_commands(target):
    """Commands that no version knows, with names and bodies from the seed, after the handshake."""
    with Peer(target.both()) as peer:
        peer.shake_hands(target.random.choice((b"SUB", b"PUB")))
        for _ in range(100):
            name = target.random.randbytes(target.random.randint(0, 200))
            peer.send(zmtp.command(name, target.random.randbytes(target.random.randint(0, 300))))


def flood_and_hang_up(target, address, kind, messages):
    """Sends messages with heartbeats between them until the daemon reads no more, and is then switched off."""
    with Peer(address, timeout=min(0.3, target.left() + 0.01)) as peer:
        peer.shake_hands(kind)
        ping = zmtp.command(b"PING", b"\0\0" + bytes(8))
        try:
            for _ in range(100):
                peer.send((messages * 7 + ping) * 1000)
        except TimeoutError:
            target.count("full")
        peer.reset()
        target.count("resets")


@behaviour
def flood_and_reset(target):
    """Subscriptions and heartbeats until the daemon reads no more, and then a reset: libzmq aborts if it has stopped reading."""
    flood_and_hang_up(target, target.output, b"SUB", zmtp.frame(zmtp.SUBSCRIBE + b"ndt.%d" % target.random.randrange(100)))


@behaviour
def flood_and_reset_on_input(target):
    """The same with bins of one frame, to the bound input."""
    flood_and_hang_up(target, target.input, b"PUB", zmtp.frame(b"ndt.bin"))


# ---- Subscribers.


@behaviour
def deaf_subscribers(target):
    """16 subscribers that never read."""

    def act(peer):
        peer.shake_hands()
        peer.subscribe()

    peers(target, 16, lambda: target.output, act)


@behaviour
def stopped_subscriber(target):
    """A subscriber whose process is stopped for most of the time, and then resumed and asked what it got."""
    program = [sys.executable, __file__, "age-of-the-oldest", "--seed", "1", "--input", target.input, "--output", target.output]
    child = subprocess.Popen([*program, "--seconds", str(target.seconds)], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    child.send_signal(signal.SIGSTOP)
    time.sleep(0.75 * target.left())
    child.send_signal(signal.SIGCONT)
    target.seen = {"age of the oldest, ms": child.communicate()[0].strip()}


def age_of_the_oldest(target):
    subscriber = target.socket(zmq.SUB, target.output)
    subscriber.subscribe(b"ndt.estimate")
    subscriber.recv_multipart()
    print("subscribed", flush=True)
    oldest = 0
    while target.left() > 0:
        if subscriber.poll(100):
            published = np.frombuffer(subscriber.recv_multipart()[1], ESTIMATE)[0]["published_ns"]
            oldest = max(oldest, time.monotonic_ns() - int(published))
    print(oldest // 1_000_000, flush=True)


@behaviour
def heartbeats(target):
    """A subscriber with a heartbeat every 200 ms, which must not be cut off."""
    if endless_subscriber(target, HEARTBEAT_IVL=200, HEARTBEAT_TIMEOUT=10_000, HEARTBEAT_TTL=30_000):
        target.fault = "a subscriber with heartbeats was cut off"
    elif not target.seen.get("received"):
        target.fault = "a subscriber with heartbeats received nothing"


@behaviour
def heartbeats_on_input(target):
    """A silent rig on the bound input with a heartbeat every 200 ms, which must not be cut off."""
    rig = target.socket(zmq.XPUB, target.input, HEARTBEAT_IVL=200, HEARTBEAT_TIMEOUT=10_000, HEARTBEAT_TTL=30_000)
    events = rig.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    target.hold()
    if events.poll(0):
        target.fault = "a rig with heartbeats was cut off"
    rig.close()


@behaviour
def subscription_flood(target):
    """100,000 subscriptions on one connection: the same, different ones, and their ends."""
    with Peer(target.output) as peer:
        peer.shake_hands()
        sent = 0
        while sent < 100_000 and target.left() > 0:
            prefixes = (b"ndt.%d" % target.random.randrange(1000) for _ in range(500))
            peer.send(*(zmtp.frame(bytes((target.random.randrange(2),)) + prefix) for prefix in prefixes))
            sent += 500
        target.count("subscriptions", sent)


@behaviour
def long_subscriptions(target):
    """Subscriptions to prefixes of 1,000 to 60,000 random bytes, ten of each connection."""
    with Peer(target.output) as peer:
        peer.shake_hands()
        for _ in range(10):
            peer.send(zmtp.frame(zmtp.SUBSCRIBE + target.random.randbytes(target.random.randint(1000, 60_000))))
            target.count("subscriptions")
        time.sleep(min(0.05, target.left()))


@behaviour
def wrong_socket_types(target):
    """REQ, REP, DEALER, ROUTER, PUSH, PULL, PAIR and PUB sockets at the output, which send what they can."""
    kinds = (zmq.REQ, zmq.REP, zmq.DEALER, zmq.ROUTER, zmq.PUSH, zmq.PULL, zmq.PAIR, zmq.PUB)
    sockets = [target.socket(kind, target.output, SNDTIMEO=0) for kind in kinds]
    while target.left() > 0:
        for opened in sockets:
            try:
                opened.send_multipart([b"", b"ndt.bin"], zmq.NOBLOCK)
            except zmq.ZMQError:
                pass
        time.sleep(0.01)
    for opened in sockets:
        opened.close()


@behaviour
def messages_to_the_output(target):
    """A subscriber that sends messages of 10,000 frames and of 60,000 bytes to the socket that publishes."""
    with Peer(target.output) as peer:
        peer.shake_hands(b"XSUB")
        peer.subscribe()
        for _ in range(10):
            peer.send(*[zmtp.frame(b"x", zmtp.MORE)] * 9_999, zmtp.frame(b"x"), zmtp.frame(bytes(60_000)))


# ---- Second rigs, on a bound input.


@behaviour
def two_rigs(target):
    """A second rig of the same channels at the same rate."""
    stream = target.random.getrandbits(60)
    as_second_rig(target, target.bins(stream), stream)


@behaviour
def foreign_description(target):
    """A second rig that describes other channels, and sends bins of another size."""
    foreign = description_of(target, 9, list(range(1000, 1000 + target.channels + 3)))
    counts = np.ones(target.channels + 3)
    messages = ([foreign, bin_of(target, number, 9, counts)][number % 2] for number in range(10**9))
    as_second_rig(target, messages)


@behaviour
def huge_description(target):
    """A second rig whose description takes 100 MB."""
    ids = b'{"bins": {"bin-width-us": 5000, "channel-ids": [' + b"1," * 50_000_000 + b"1]}}"
    huge = description_of(target, 9)[:2] + [ids]
    as_second_rig(target, (huge for _ in range(10**9)), period_s=0.3)


@behaviour
def nested_description(target):
    """A second rig whose description is nested 100,000 deep, is no JSON, or no UTF-8."""
    bodies = (b"[" * 100_000, b'{"bins": ' * 10_000, b"{", b"\xff\xfe", b"", b'{"bins": {"channel-ids": [1e400]}}')
    messages = (description_of(target, 9)[:2] + [bodies[number % len(bodies)]] for number in range(10**9))
    as_second_rig(target, messages)


@behaviour
def many_frames(target):
    """A second rig whose messages have 10,000 frames."""
    message = [b"ndt.bin"] + [b"x"] * 9_999
    as_second_rig(target, (message for _ in range(10**9)), period_s=0.02)


@behaviour
def full_speed(target):
    """A second rig of the same channels that sends as fast as it can."""
    stream = target.random.getrandbits(60)
    as_second_rig(target, target.bins(stream), stream, period_s=0.0)


@behaviour
def full_speed_of_noise(target):
    """Messages that are no bins, as fast as they can be sent."""
    noise = ([b"ndt." + target.random.randbytes(8), target.random.randbytes(200)] for _ in range(10**9))
    as_second_rig(target, noise, period_s=0.0)


@behaviour
def vanishing_rig(target):
    """A second rig that is switched off in the middle of a message and reboots, under another stream each time."""
    with Peer(target.input) as peer:
        peer.shake_hands(b"PUB")
        stream = target.random.getrandbits(60)
        messages = [description_of(target, stream)] + [bin_of(target, seq, stream) for seq in range(20)]
        for message in messages:
            last = len(message) - 1
            peer.send(*(zmtp.frame(part, zmtp.MORE * (at < last)) for at, part in enumerate(message)))
        peer.send(zmtp.frame(b"ndt.bin", zmtp.MORE), zmtp.header(0, 56), b"NDTW")
        peer.reset()
        target.count("reboots")
    time.sleep(min(0.05, target.left()))


@behaviour
def clock_jumps(target):
    """A second rig whose clock jumps by hours, forwards and back."""
    stream = target.random.getrandbits(60)
    jump = lambda: target.random.randint(-10**14, 10**14)
    as_second_rig(target, (bin_of(target, seq, stream, source_ns=10**15 + jump()) for seq in range(10**9)), stream)


@behaviour
def not_a_number(target):
    """A second rig whose counts are NaN, infinite, negative, tiny or huge."""
    values = (np.nan, np.inf, -np.inf, -1.0, 1e-40, 3e38, -0.0)
    counts = lambda: np.array([target.random.choice(values) for _ in range(target.channels)])
    stream = target.random.getrandbits(60)
    as_second_rig(target, (bin_of(target, seq, stream, counts()) for seq in range(10**9)), stream)


@behaviour
def absurd_stamps(target):
    """A second rig whose stamps are the smallest and largest that the header can hold, and zero."""
    stamps = (-(2**63), 2**63 - 1, 0, -1, time.time_ns() * 5)
    stream = target.random.getrandbits(60)
    stamp = lambda: {"source_ns": target.random.choice(stamps), "sent_ns": target.random.choice((0, 1, 2**64 - 1))}
    as_second_rig(target, (bin_of(target, seq, stream, **stamp()) for seq in range(10**9)), stream)


@behaviour
def absurd_numbers(target):
    """A second rig whose bins are numbered 0, 2^62, 2^64 - 1 and at random."""
    seq = lambda: target.random.choice((0, 1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1, target.random.getrandbits(64)))
    as_second_rig(target, (bin_of(target, seq(), 11, source_ns=0) for _ in range(10**9)), 11)


@behaviour
def wrong_topics(target):
    """A second rig whose topics are none of the project's, or belong to another kind of message."""
    topics = (b"", b"ndt.", b"ndt.bins", b"ndt.estimate", b"ndt.description", b"NDT.BIN", b"ndt.bin\0", b"ndt." + bytes(60_000))
    bins = target.bins(stream=12)
    as_second_rig(target, ([target.random.choice(topics), *next(bins)[1:]] for _ in range(10**9)), 12)


@behaviour
def wrong_versions(target):
    """A second rig of every other version, kind, bin width and number of channels."""
    fields = {"version": (0, 1, 2, 4, 65535), "kind": (0, 2, 3, 65535), "bin_width_us": (0, 1, 3000, 2**32 - 1),
              "channels": (0, 1, 4097, 2**32 - 1), "flags": (2, 2**32 - 1), "magic": (b"XXXX",), "reserved": (1,)}

    def message(seq):
        name = target.random.choice(list(fields))
        return bin_of(target, seq, 13, **{name: target.random.choice(fields[name])})

    as_second_rig(target, (message(seq) for seq in range(10**9)), 13)


@behaviour
def wrong_lengths(target):
    """A second rig whose headers and payloads are cut off or too long, in too few or too many frames."""

    def message(seq):
        topic, header, counts = bin_of(target, seq, 14)
        cut = lambda text: text[: target.random.randrange(len(text))]
        return target.random.choice((
            [topic], [topic, header], [topic, cut(header), counts], [topic, header, cut(counts)], [topic, header + b"x", counts],
            [topic, header, counts + bytes(4)], [topic, header, bytes(60_000)], [topic, header, counts, b"", counts], [topic, b"", b""],
        ))

    as_second_rig(target, (message(seq) for seq in range(10**9)), 14)


# ---- The computer, and Lab Streaming Layer.


@behaviour
def stopped_daemon(target):
    """The daemon's process is stopped for a quarter of a second, and resumed. After a longer stop heartbeats end its connections: stopped_daemon.rs."""
    os.kill(target.pid, signal.SIGSTOP)
    time.sleep(0.25)
    os.kill(target.pid, signal.SIGCONT)
    target.hold()


@behaviour
def few_descriptors(target):
    """As many connections as use up a daemon's file descriptors; for one that was started with few."""
    peers(target, 300, target.both, lambda peer: peer.send(zmtp.greeting()))


@behaviour
def full_disk(target):
    """Messages that are warned of in the log; for a daemon whose log is on a full disk."""
    wrong_versions(target)


@behaviour
def second_lsl_stream(target):
    """A second stream of the same name as the rig's, with other channels and absurd stamps; for a daemon with an LSL input."""
    import pylsl

    kind = (target.lsl, "BinnedSpikes", target.channels + target.random.randrange(2), 200.0, "float32")
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo(*kind, f"second-{target.random.getrandbits(30)}"), 1, 10)
    stamps = (0.0, -1.0, 1e300, float("nan"), float(time.time_ns()), pylsl.local_clock())
    for _ in paced(target, iter(int, 1)):
        outlet.push_sample([1.0] * kind[2], target.random.choice(stamps))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=[*BEHAVIOURS, "age-of-the-oldest"])
    parser.add_argument("--list", action="store_true", help="print each behaviour's name and what it does")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--input", help="address that the daemon has bound for its bins")
    parser.add_argument("--output", help="address of the daemon's estimates")
    parser.add_argument("--channels", type=int, default=8, help="number of channels of the model, with the ids 0, 1, ...")
    parser.add_argument("--pid", type=int, help="the daemon's process, for behaviours that stop it")
    parser.add_argument("--lsl", help="name of the rig's stream, for a daemon with an LSL input")
    arguments = parser.parse_args()
    if arguments.list:
        for name, function in BEHAVIOURS.items():
            print(f"{name}\t{function.__doc__}")
        return
    if arguments.name is None:
        parser.error("expected the name of a behaviour, or --list")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    target = Target(arguments)
    act = BEHAVIOURS.get(arguments.name, age_of_the_oldest)
    while target.left() > 0:
        try:
            act(target)
            target.count("times") if arguments.name in BEHAVIOURS else None
        except OSError as error:
            # The daemon may hang up whenever it likes, and a port without a daemon is the test's to notice.
            target.count(type(error).__name__)
            time.sleep(min(0.001, target.left()))
    if arguments.name in BEHAVIOURS:
        print(target.fault or ", ".join(f"{what} {count}" for what, count in target.seen.items()))
    # What is still queued for a daemon that does not read is not waited for.
    sys.stdout.flush()
    os._exit(1 if target.fault else 0)


if __name__ == "__main__":
    main()
