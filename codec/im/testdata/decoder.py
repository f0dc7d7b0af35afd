#!/usr/bin/env python3
"""A decoder of the formats of docs/formats.md, written from that text and nothing else.

decoder.py FILE.json...  checks vectors; the name of the file says the format
decoder.py               reads {"format": ..., "hex": ...} a line, writes {"value": ...} or {"offset": ...} a line
"""

import json
import os
import sys


class Wrong(Exception):
    """A payload is wrong at an offset."""

    def __init__(self, offset):
        super().__init__("byte %d" % offset)
        self.offset = offset


class Fields:
    """Takes fields off the front of a payload."""

    def __init__(self, payload):
        self.payload = payload
        self.at = 0

    def take(self, n):
        if n > len(self.payload) - self.at:
            raise Wrong(len(self.payload))
        self.at += n
        return self.payload[self.at - n : self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def positive(self, n):
        """A length or count that may not be 0."""
        at = self.at
        value = self.number(n)
        if value == 0:
            raise Wrong(at)
        return value

    def one_of(self, allowed):
        """A byte with a table."""
        at = self.at
        value = self.number(1)
        if value not in allowed:
            raise Wrong(at)
        return value

    def end(self):
        if self.at != len(self.payload):
            raise Wrong(self.at)


def text(b):
    """Bytes as the string of a value; what is no UTF-8 stays recognisable."""
    return b.decode("utf-8", "surrogateescape")


# Topics

CHANNELS = ("/im/u/", "/im/g/", "/notice/u/", "/notice/g/", "/connect/new")


def allowed(c):
    n = ord(c)
    control = n <= 0x1F or 0x7F <= n <= 0x9F
    non_character = 0xFDD0 <= n <= 0xFDEF or n & 0xFFFF in (0xFFFE, 0xFFFF)
    return not (control or non_character or c in "/+#")


def identifier(b, at):
    """Checks the identifier b, which begins at an offset."""
    if not b:
        raise Wrong(at)
    if len(b) > 1024:
        raise Wrong(at + 1024)
    try:
        good, broken = b.decode("utf-8"), None
    except UnicodeDecodeError as e:
        good, broken = b[: e.start].decode("utf-8"), at + e.start
    for c in good:
        if not allowed(c):
            raise Wrong(at)
        at += len(c.encode("utf-8"))
    if broken is not None:
        raise Wrong(broken)


def common(a, b):
    """How many bytes a and b have in common at the front."""
    n = 0
    while n < len(a) and n < len(b) and a[n] == b[n]:
        n += 1
    return n


def topic(payload):
    root = b"/e/"
    if not payload.startswith(root):
        raise Wrong(common(payload, root))
    slash = payload.find(b"/", len(root))
    if slash < 0:
        raise Wrong(len(payload))
    tenant, rest = payload[len(root) : slash], payload[slash:]
    identifier(tenant, len(root))
    for channel in CHANNELS:
        if not rest.startswith(channel.encode()):
            continue
        at = slash + len(channel)
        name = payload[at:]
        if channel != "/connect/new":
            identifier(name, at)
        elif name:
            raise Wrong(at)
        return {"channel": channel.strip("/"), "tenant": text(tenant), "id": text(name)}
    raise Wrong(slash + max(common(rest, channel.encode()) for channel in CHANNELS))


# Messages and notifications

KINDS = range(1, 10)
MEDIA = range(0x00, 0x06)
FORCED_OFFLINE = 0x28
NOTIFICATIONS = (FORCED_OFFLINE, 0x30, 0x31, 0x32, 0x36, 0x37, 0x38, 0x39)


def message(payload):
    f = Fields(payload)
    time = f.number(4)
    head = f.one_of([kind << 4 | parts for kind in KINDS for parts in range(1, 8)])
    media = []
    for _ in range(head & 0x0F):
        kind = f.one_of(MEDIA)
        media.append({"type": kind, "content": text(f.take(f.positive(4)))})
    sender = f.take(f.positive(1))
    f.end()
    return {"time": time, "kind": head >> 4, "media": media, "sender": text(sender)}


def notification(payload):
    f = Fields(payload)
    time = f.number(4)
    kind = f.one_of(NOTIFICATIONS)
    body = b""
    if kind != FORCED_OFFLINE:
        body = f.take(max(1, len(payload) - f.at))
    f.end()
    return {"time": time, "type": kind, "body": text(body)}


# Entries and answers

VERSION = 1
REPLACE = 3
ACTIONS = (1, 2, REPLACE)
STATES = range(1, 6)
HAS_WAIT, HAS_ORIGIN, IS_USERNAME = 0x20, 0x40, 0x80
HAS_IDENTIFIER = 0x40


def entry_topic(f):
    name = f.take(f.positive(2))
    options = f.one_of([o for o in range(0x80) if o & 0x03 != 3 and o & 0x30 != 0x30])
    number = 0
    if options & HAS_IDENTIFIER:
        at = f.at
        number = f.number(4)
        if not 1 <= number <= 268435455:
            raise Wrong(at)
    return {
        "topic": text(name),
        "qos": options & 0x03,
        "nl": options & 0x04 != 0,
        "rap": options & 0x08 != 0,
        "rh": options >> 4 & 3,
        "id": number,
    }


def one_entry(f):
    target = f.take(f.positive(2))
    head = f.one_of([bits | a for bits in range(0, 0x100, 0x20) for a in ACTIONS])
    action = head & 0x0F
    origin = f.take(f.positive(1)) if head & HAS_ORIGIN else b""
    wait = f.number(4) if head & HAS_WAIT else None
    topics = f.number(2) if action == REPLACE else f.positive(2)
    return {
        "target": text(target),
        "username": head & IS_USERNAME != 0,
        "action": action,
        "origin": text(origin),
        "wait": wait,
        "topics": [entry_topic(f) for _ in range(topics)],
    }


def entry(payload):
    f = Fields(payload)
    f.one_of([VERSION])
    batch = [one_entry(f) for _ in range(f.positive(2))]
    f.end()
    return batch


def result(f):
    return {"topic": text(f.take(f.number(2))), "code": f.number(1), "state": f.one_of(STATES)}


def one_answer(f):
    return {
        "clientid": text(f.take(f.number(2))),
        "code": f.number(1),
        "revision": f.number(8),
        "results": [result(f) for _ in range(f.number(2))],
    }


def answer(payload):
    f = Fields(payload)
    f.one_of([VERSION])
    answers = [one_answer(f) for _ in range(f.number(2))]
    f.end()
    return answers


FORMATS = {f.__name__: f for f in (topic, message, notification, entry, answer)}


def decode(name, digits):
    try:
        return {"value": FORMATS[name](bytes.fromhex(digits))}
    except Wrong as e:
        return {"offset": e.offset}


def check(path):
    """Checks the vectors of a file; the number of those that do not agree."""
    name = os.path.splitext(os.path.basename(path))[0]
    bad = 0
    with open(path, encoding="utf-8") as file:
        for vector in json.load(file):
            want = {k: vector[k] for k in ("value", "offset") if k in vector}
            got = decode(name, vector["hex"])
            if got != want:
                bad += 1
                print("%s: %s: %s, want %s" % (path, vector["name"], got, want))
    return bad


def main():
    if len(sys.argv) > 1:
        sys.exit(1 if sum([check(path) for path in sys.argv[1:]]) else 0)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(decode(request["format"], request["hex"])))


if __name__ == "__main__":
    main()
