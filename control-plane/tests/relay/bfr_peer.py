#!/usr/bin/env python3
"""A peer that was written from docs/bfr.md alone, in another language, with other people's cryptography.

In: a key, a relay's address and public key, an object to send or a place for one to be received. Out: the object, moved by the
protocol as the page says it, and a line of JSON for each step. What this script cannot do from the page is a gap in the page.

    bfr_peer.py --secret HEX --peer HEX [--addr HOST:PORT] [--listen HOST:PORT] ORDER...

    key            prints the public key and ends
    call           calls until there is a session       answer         waits to be called
    send:CLASS:FILE sends an object (opaque, block)     take:FILE      takes the next object into a file
    lose:SHARE     loses this share of data symbols, on the way out and in, from now on
    keep:SECONDS   keeps the session                    close          says so and ends

It needs `noiseprotocol` and `pyaegis` (PyPI). Numbers in brackets are sections of the page.
"""

import argparse
import hashlib
import json
import os
import random
import select
import socket
import struct
import sys
import time

from noise.connection import Keypair, NoiseConnection
from pyaegis import AegisMac128L
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

HELLO, ANSWER, KEEP, DATA, NACK, STOP, CLOSE, WANT, ROOT = range(9)
HAVE_ALL, COOKIE, REFUSED = 0x01, 0x40, 0x20
CLASSES = ["header", "block", "subtree", "bundle", "opaque"]
SYMBOL = 1152
HEAD = 40
FROM_CALLER, FROM_ANSWERER = 1, 2
PATIENCE_S = 30


def tell(**what):
    print(json.dumps(what), flush=True)


def now_us():
    return time.monotonic_ns() // 1000


# --- [9] the field and the code -------------------------------------------------------------------------------------------------


def field():
    """Logarithms of GF(2^8) with the polynomial 0x11b; 3 generates it."""
    exp, log, x = [0] * 510, [0] * 256, 1
    for i in range(255):
        exp[i] = exp[i + 255] = x
        log[x] = i
        x ^= (x << 1) ^ (0x11B if x & 0x80 else 0)
    return exp, log


EXP, LOG = field()
TIMES = {}


def inverse(a):
    return EXP[255 - LOG[a]]


def times(factor, symbol):
    """A symbol times a factor; a table of 256 bytes for each factor makes it one call."""
    if factor not in TIMES:
        TIMES[factor] = bytes(EXP[LOG[factor] + LOG[b]] if factor and b else 0 for b in range(256))
    return int.from_bytes(symbol.translate(TIMES[factor]), "little")


def parity(data, number):
    total = 0
    for i, symbol in enumerate(data):
        total ^= times(inverse(number ^ i), symbol)
    return total.to_bytes(len(data[0]), "little")


def decode(k, got):
    """The k data symbols of a group from any k symbols {number: bytes}."""
    missing = [i for i in range(k) if i not in got]
    rows = [number for number in sorted(got) if number >= k][: len(missing)]
    size = len(next(iter(got.values())))
    # What the known data contribute to each parity symbol goes; a square system in the missing ones stays.
    matrix, right = [], []
    for number in rows:
        rest = int.from_bytes(got[number], "little")
        for i in range(k):
            if i in got:
                rest ^= times(inverse(number ^ i), got[i])
        matrix.append([inverse(number ^ i) for i in missing])
        right.append(rest.to_bytes(size, "little"))
    for at in range(len(missing)):
        pivot = next(row for row in range(at, len(rows)) if matrix[row][at])
        matrix[at], matrix[pivot] = matrix[pivot], matrix[at]
        right[at], right[pivot] = right[pivot], right[at]
        factor = inverse(matrix[at][at])
        matrix[at] = [EXP[LOG[factor] + LOG[x]] if x else 0 for x in matrix[at]]
        right[at] = times(factor, right[at]).to_bytes(size, "little")
        for row in range(len(missing)):
            factor = matrix[row][at]
            if row == at or not factor:
                continue
            matrix[row] = [a ^ (EXP[LOG[factor] + LOG[b]] if b else 0) for a, b in zip(matrix[row], matrix[at])]
            whole = int.from_bytes(right[row], "little") ^ times(factor, right[at])
            right[row] = whole.to_bytes(size, "little")
    return [got[i] if i in got else right[missing.index(i)] for i in range(k)]


# --- [8] [9] objects ------------------------------------------------------------------------------------------------------------


class Shape:
    """How an object of `length` bytes, head included, is cut when its largest group has at most `k` data symbols."""

    def __init__(self, length, k):
        self.length = length
        self.symbol = min(SYMBOL, length)
        self.n = -(-length // self.symbol)
        self.groups = -(-self.n // k)

    def k(self, group):
        """Data symbols of this group."""
        return -(-(self.n - group) // self.groups)


def digest(kind, shape, symbols):
    leaves = [hashlib.sha256(bytes(32) + symbols[0][32:]).digest()]
    leaves += [hashlib.sha256(symbol).digest() for symbol in symbols[1:]]
    front = struct.pack("<4sBBHI", b"BFR1", kind, 0, shape.symbol, shape.length)
    return hashlib.sha256(front + b"".join(leaves)).digest()


def cut(whole, shape):
    padded = whole + bytes(shape.n * shape.symbol - len(whole))
    return [padded[i * shape.symbol : (i + 1) * shape.symbol] for i in range(shape.n)]


def block_number(header):
    twice = hashlib.sha256(hashlib.sha256(header).digest()).digest()
    return struct.unpack("<Q", twice[:8])[0]


class Outgoing:
    """An object in its plain form, ready to be sent."""

    def __init__(self, kind, payload):
        whole = struct.pack("<32sB3xI", bytes(32), 0, len(payload)) + payload
        self.kind = kind
        self.shape = Shape(len(whole), 64 if len(whole) <= 4 << 20 else 128)
        symbols = cut(whole, self.shape)
        hashed = digest(kind, self.shape, symbols)
        symbols[0] = hashed + symbols[0][32:]
        named = kind in (CLASSES.index("header"), CLASSES.index("block"))
        self.number = block_number(payload[:80]) if named else struct.unpack("<Q", hashed[:8])[0]
        self.data = [symbols[group :: self.shape.groups] for group in range(self.shape.groups)]
        self.next_parity = [self.shape.k(group) for group in range(self.shape.groups)]
        # [9] for 1 % loss; what is too little is asked for.
        self.announced = 5 if self.shape.groups > 1 else 2

    def frame(self, group, number):
        k = self.shape.k(group)
        body = self.data[group][number] if number < k else parity(self.data[group], number)
        fields = struct.pack("<QIHBBBBH", self.number, self.shape.length, group, number, self.shape.k(0),
                             1 << 4 | self.kind, 8, self.announced)
        return DATA, 0, fields, body

    def fresh(self, group):
        number = self.next_parity[group]
        self.next_parity[group] += 1
        return self.frame(group, number)

    def everything(self):
        for i in range(self.shape.n):
            yield self.frame(i % self.shape.groups, i // self.shape.groups)
        for _ in range(self.announced):
            for group in range(self.shape.groups):
                yield self.fresh(group)


class Incoming:
    """An object that is gathered."""

    def __init__(self, number, kind, shape, announced):
        self.number, self.kind, self.shape, self.announced = number, kind, shape, announced
        self.got = [{} for _ in range(shape.groups)]
        self.asked_at = now_us() + 200_000
        self.wait_us = 100_000

    def put(self, group, number, symbol):
        if len(self.got[group]) < self.shape.k(group):
            self.got[group][number] = symbol

    def lacks(self):
        need = ((group, self.shape.k(group) - len(got)) for group, got in enumerate(self.got))
        return [(group, lack) for group, lack in need if lack]

    def whole(self):
        groups = [decode(self.shape.k(group), got) for group, got in enumerate(self.got)]
        symbols = [groups[i % self.shape.groups][i // self.shape.groups] for i in range(self.shape.n)]
        whole = b"".join(symbols)
        assert not any(whole[self.shape.length :]), "padding is not zero"
        hashed, form, raw_len = struct.unpack("<32sB3xI", whole[:HEAD])
        assert hashed == digest(self.kind, self.shape, symbols), "the object does not have its hash"
        assert form == 0, f"form {form}: this peer reads plain ones"
        payload = whole[HEAD : self.shape.length]
        assert len(payload) == raw_len, f"{len(payload)} bytes, raw_len {raw_len}"
        return payload


# --- [1] [3] [4] the link -------------------------------------------------------------------------------------------------------


class Link:
    def __init__(self, secret, peer, address, listen, seed):
        self.secret, self.peer, self.address = secret, peer, address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(listen)
        self.luck = random.Random(seed)
        self.loss = 0.0
        self.incarnation = self.luck.getrandbits(64)
        self.own_id = self.luck.getrandbits(16)
        self.send_key = self.hear_key = None
        self.cookie_secret = os.urandom(32)
        self.inbox, self.stopped, self.nacks, self.finished = {}, {}, [], {}
        self.headers, self.taken = set(), []
        self.counts = {"lost_out": 0, "lost_in": 0, "decoded": 0, "nacks_in": 0, "nacks_out": 0}

    def handshake(self, hello_id, calls):
        noise = NoiseConnection.from_name(b"Noise_IK_25519_ChaChaPoly_BLAKE2s")
        noise.set_prologue(b"MetaNode BFR 1" + struct.pack("<I", hello_id))
        noise.set_keypair_from_private_bytes(Keypair.STATIC, self.secret)
        if calls:
            noise.set_as_initiator()
            noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, self.peer)
        else:
            noise.set_as_responder()
        noise.start_handshake()
        return noise

    def greeting(self):
        return struct.pack("<HHIQ", self.own_id, 0, 0, self.incarnation)

    def begin(self, noise, theirs, calls):
        """[3] The two keys of the split, the caller's first; [4] their first halves are the keys of the tags."""
        self.their_id, _, self.their_mbit, self.their_incarnation = struct.unpack("<HHIQ", bytes(theirs))
        protocol = noise.noise_protocol
        ours, other = protocol.cipher_state_encrypt.k, protocol.cipher_state_decrypt.k
        self.send_key, self.hear_key = bytes(ours)[:16], bytes(other)[:16]
        self.send_way, self.hear_way = (FROM_CALLER, FROM_ANSWERER) if calls else (FROM_ANSWERER, FROM_CALLER)
        self.sequence, self.heard, self.heard_max, self.heard_at, self.echo = 0, set(), 0, None, 0
        self.kept_at = self.to_report = 0
        self.keep()

    def tag(self, key, key_id, sequence, way, packet):
        mac = AegisMac128L(key, struct.pack("<HIB9x", key_id, sequence, way), 16)
        mac.update(packet)
        return mac.final()

    def packet(self, kind, flags, fields, body):
        front = struct.pack("<BBHI", 1 << 4 | kind, flags, self.their_id, self.sequence)
        packet = front + fields.ljust(20, b"\0") + struct.pack("<I", now_us() & 0xFFFFFFFF) + body
        packet += self.tag(self.send_key, self.their_id, self.sequence, self.send_way, packet)
        self.sequence += 1
        assert len(packet) <= 1232
        if kind == DATA and self.luck.random() < self.loss:
            self.counts["lost_out"] += 1
            return
        self.socket.sendto(packet, self.address)

    def keep(self):
        """[2] [5]"""
        held = 0xFFFFFFFF if self.heard_at is None else min(now_us() - self.heard_at, 0xFFFFFFFE)
        fields = struct.pack("<IIIII", self.echo, held, self.heard_max, len(self.heard), 10_000)
        self.packet(KEEP, 0, fields, struct.pack("<IIII", 0, 0, 0, 0))
        self.kept_at, self.to_report = now_us(), 0

    def call(self):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and not self.send_key:
            hello_id = self.luck.getrandbits(32)
            self.socket.sendto(struct.pack("<BBHI128x", 0x10, COOKIE, 0, hello_id), self.address)
            answer = self.wait_for(lambda a: len(a) == 24 and a[:2] == bytes([0x11, COOKIE]), hello_id)
            if not answer:
                continue
            noise = self.handshake(hello_id, True)
            message = noise.write_message(self.greeting())
            hello = struct.pack("<BBHI", 0x10, 0, 0, hello_id) + answer[8:] + bytes(message)
            assert len(hello) == 136
            self.socket.sendto(hello, self.address)
            answer = self.wait_for(lambda a: len(a) == 72 and a[:2] == bytes([0x11, 0]), hello_id)
            if answer:
                self.begin(noise, noise.read_message(answer[8:]), True)
        if not self.send_key:
            sys.exit("bfr_peer: nobody answered")

    def wait_for(self, wanted, hello_id):
        until = time.monotonic() + 0.25
        while (left := until - time.monotonic()) > 0:
            if select.select([self.socket], [], [], left)[0]:
                packet, _ = self.socket.recvfrom(2048)
                if wanted(packet) and packet[4:8] == struct.pack("<I", hello_id) and packet[2:4] == b"\0\0":
                    return packet
        return None

    def answer(self):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and not self.heard_at:
            if not select.select([self.socket], [], [], 0.05)[0]:
                if self.send_key:
                    self.turn(0)
                continue
            packet, source = self.socket.recvfrom(2048)
            self.answer_one(packet, source)
        if not self.heard_at:
            sys.exit("bfr_peer: nobody called")

    heard_at = None

    def answer_one(self, packet, source):
        if len(packet) == 136 and packet[0] == 0x10:
            hello_id = packet[4:8]
            # The cookie is its maker's own business; nobody else reads it.
            cookie = hashlib.blake2s(repr(source).encode() + hello_id, key=self.cookie_secret, digest_size=16).digest()
            if packet[1] == COOKIE:
                self.socket.sendto(struct.pack("<BBH", 0x11, COOKIE, 0) + hello_id + cookie, source)
            elif packet[8:24] == cookie:
                noise = self.handshake(struct.unpack("<I", hello_id)[0], False)
                theirs = noise.read_message(packet[24:])
                assert noise.noise_protocol.handshake_state.rs.public_bytes == self.peer, "somebody else calls"
                message = noise.write_message(self.greeting())
                self.socket.sendto(struct.pack("<BBH", 0x11, 0, 0) + hello_id + bytes(message), source)
                self.address = source
                self.begin_answered(noise, theirs)
        elif self.send_key:
            self.hear(packet)

    def begin_answered(self, noise, theirs):
        """Nothing is sent in a session before its caller confirmed it."""
        keep, self.keep = self.keep, lambda: None
        self.begin(noise, theirs, False)
        self.keep = keep

    def hear(self, packet):
        if len(packet) < 48 or packet[0] >> 4 != 1 or packet[0] & 15 < KEEP:
            return
        kind, flags, key_id, sequence = packet[0] & 15, *struct.unpack("<BHI", packet[1:8])
        if key_id != self.own_id or sequence in self.heard:
            return
        if self.tag(self.hear_key, key_id, sequence, self.hear_way, packet[:-16]) != packet[-16:]:
            return
        first = self.heard_at is None
        self.heard.add(sequence)
        self.heard_max = max(self.heard_max, sequence)
        self.echo, self.heard_at = struct.unpack("<I", packet[28:32])[0], now_us()
        if first:
            self.keep()
        fields, body = packet[8:28], packet[32:-16]
        if kind == DATA:
            self.to_report = self.to_report or now_us() + 10_000
            if self.luck.random() < self.loss:
                self.counts["lost_in"] += 1
            else:
                self.on_data(flags, fields, body)
        elif kind == STOP:
            number, length, count = struct.unpack("<QIH", fields[:14])
            if count == 0:
                # A header and its block have one number, and two lengths.
                self.stopped[number, length] = "refused" if flags & REFUSED else "has all"
        elif kind == NACK:
            number, length, count = struct.unpack("<QIH", fields[:14])
            self.counts["nacks_in"] += 1
            self.nacks.append((number, [struct.unpack("<HBx", body[i * 4 : i * 4 + 4]) for i in range(count)]))
        elif kind == CLOSE:
            tell(closed=True)
            sys.exit(0)

    def on_data(self, flags, fields, body):
        number, length, group, symbol, k, code, hops, announced = struct.unpack("<QIHBBBBH", fields)
        assert code >> 4 == 1, f"code {code >> 4}"
        key = (number, code & 15)
        if key in self.finished:
            return self.stop(number, length)
        if key not in self.inbox:
            self.inbox[key] = Incoming(number, code & 15, Shape(length, k), announced)
        incoming = self.inbox[key]
        assert len(body) == incoming.shape.symbol, f"{len(body)} bytes"
        incoming.put(group, symbol, body)
        if not incoming.lacks():
            payload = incoming.whole()
            self.counts["decoded"] += sum(any(n >= incoming.shape.k(g) for n in got) for g, got in enumerate(incoming.got))
            self.finished[key] = True
            del self.inbox[key]
            self.stop(number, length)
            if code & 15 == CLASSES.index("header"):
                assert block_number(payload) == number, "a header under another name"
                self.headers.add(number)
            else:
                self.taken.append((code & 15, number, payload))

    def stop(self, number, length):
        self.packet(STOP, HAVE_ALL, struct.pack("<QIH", number, length, 0), b"")

    def turn(self, wait_s):
        """Hears what is there and says what is due."""
        ready = select.select([self.socket], [], [], wait_s)[0]
        for _ in range(64 if ready else 0):
            try:
                packet, source = self.socket.recvfrom(2048, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            self.answer_one(packet, source)
        now = now_us()
        if self.to_report and now >= self.to_report or now - self.kept_at >= 250_000:
            self.keep()
        for incoming in self.inbox.values():
            if now >= incoming.asked_at:
                need = incoming.lacks()[:290]
                body = b"".join(struct.pack("<HBB", group, lack, 0) for group, lack in need)
                self.packet(NACK, 0, struct.pack("<QIH", incoming.number, incoming.shape.length, len(need)), body)
                self.counts["nacks_out"] += 1
                incoming.asked_at, incoming.wait_us = now + incoming.wait_us, incoming.wait_us * 2

    def send(self, kind, payload):
        objects = [Outgoing(kind, payload)]
        if kind == CLASSES.index("block"):
            objects.insert(0, Outgoing(CLASSES.index("header"), payload[:80]))
        began = time.monotonic()
        for outgoing in objects:
            key = outgoing.number, outgoing.shape.length
            self.stopped.pop(key, None)
            frames, until = outgoing.everything(), time.monotonic() + PATIENCE_S
            again = now_us() + 200_000
            while key not in self.stopped:
                if time.monotonic() > until:
                    sys.exit(f"bfr_peer: object {outgoing.number:016x} was not taken")
                frame = next(frames, None)
                if frame:
                    self.packet(*frame)
                    # Some 100 Mbit/s: this is a script.
                    self.turn(0.0001)
                    again = now_us() + 200_000
                    continue
                self.turn(0.002)
                for number, need in self.nacks:
                    if number == outgoing.number:
                        for group, lack in need:
                            for _ in range(lack + 1):
                                self.packet(*outgoing.fresh(group))
                        again = now_us() + 200_000
                self.nacks.clear()
                if now_us() > again:
                    # [11] So an object of which every packet was lost still arrives.
                    self.packet(*outgoing.frame(0, 0))
                    again = now_us() + 400_000
        ms = round((time.monotonic() - began) * 1000)
        tell(sent=f"{objects[-1].number:016x}", answer=self.stopped[key], ms=ms)

    def take(self, path):
        until = time.monotonic() + PATIENCE_S
        while not self.taken:
            if time.monotonic() > until:
                sys.exit("bfr_peer: nothing came")
            self.turn(0.005)
        kind, number, payload = self.taken.pop(0)
        with open(path, "wb") as file:
            file.write(payload)
        tell(took=f"{number:016x}", kind=CLASSES[kind], bytes=len(payload))


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--secret", required=True)
    parser.add_argument("--peer")
    parser.add_argument("--addr", type=endpoint)
    parser.add_argument("--listen", type=endpoint, default=("127.0.0.1", 0))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("orders", nargs="+")
    args = parser.parse_args()
    secret = bytes.fromhex(args.secret)
    if args.orders == ["key"]:
        print(X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex())
        return
    link = Link(secret, bytes.fromhex(args.peer), args.addr, args.listen, args.seed)
    tell(listens="%s:%d" % link.socket.getsockname())
    for order in args.orders:
        word, *rest = order.split(":", 2)
        if word == "call":
            link.call()
            tell(session=link.own_id, their_incarnation=link.their_incarnation)
        elif word == "answer":
            link.answer()
            tell(session=link.own_id, their_incarnation=link.their_incarnation)
        elif word == "lose":
            link.loss = float(rest[0])
        elif word == "send":
            with open(rest[1], "rb") as file:
                link.send(CLASSES.index(rest[0]), file.read())
        elif word == "take":
            link.take(rest[0])
        elif word == "keep":
            until = time.monotonic() + float(rest[0])
            while time.monotonic() < until:
                link.turn(0.01)
        elif word == "close":
            link.packet(CLOSE, 0, b"", b"")
        else:
            sys.exit(f"bfr_peer: no order `{order}`")
    tell(done=link.counts)


main()
