#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what a local user can do to another one who signs: floods of one kind, and the owner's success and times beside them.

usage: flood.py --socket PATH --key NAME [--uid N] [--seconds S] [--audit FILE] [MODE...]

Run as root: the owner is root, the flooder becomes uid N (61191). A MODE is refused (requests that the policy refuses), sign (the flooder
may sign too: give it the right), idle (connections that stay) or huge (names of 250 KB). Prints a line of JSON a mode: the owner's requests, what
part of them succeeded, p50 and p99 in microseconds without and with the flood, and how much the audit log grew.
"""
import argparse
import json
import os
import select
import signal
import socket
import struct
import time


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def sign_frame(key):
    body = b"\x08\x01" + field(15, field(1, key.encode()) + field(3, b"d" * 32))
    return struct.pack(">I", len(body)) + body


def failed(body):
    """Does the answer hold a failure (field 2)?"""
    at = 0
    while at < len(body):
        tag, at = body[at], at + 1
        if tag == 0x12:
            return True
        if tag & 7 == 0:
            while body[at] & 128:
                at += 1
            at += 1
        else:
            return False
    return False


def connect(path):
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.connect(path)
    return line


def answer(line):
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
        more = line.recv(65536)
        if not more:
            return None
        data += more
    return data[4:]


def owner(path, key, seconds):
    """Signs one after the other, on a new connection every hundred requests."""
    frame, times, good, line = sign_frame(key), [], 0, None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        try:
            if line is None or len(times) % 100 == 0:
                line = connect(path)
            line.sendall(frame)
            body = answer(line)
            good += body is not None and not failed(body)
        except OSError:
            line = None
        times.append(time.monotonic() - begun)
        time.sleep(0.001)
    times.sort()
    at = lambda part: round(times[min(len(times) - 1, int(len(times) * part))] * 1e6)
    return {"requests": len(times), "success": round(good / len(times), 5), "p50": at(0.5), "p99": at(0.99)}


def flood(path, mode, key):
    lines = []
    count = 1024 if mode == "idle" else 128
    for _ in range(count):
        try:
            lines.append(connect(path))
            lines[-1].setblocking(False)
        except OSError:
            break
    if mode == "idle":
        while True:
            time.sleep(60)
    frame = sign_frame("x" * 250000 if mode == "huge" else key) * (1 if mode == "huge" else 8)
    while True:
        ready, writable, _ = select.select(lines, lines, [], 1)
        for line in ready:
            try:
                if not line.recv(65536):
                    raise OSError
            except OSError:
                lines.remove(line)
                try:
                    lines.append(connect(path))
                    lines[-1].setblocking(False)
                except OSError:
                    pass
        for line in writable:
            try:
                line.send(frame)
            except OSError:
                pass


def start_flood(options, mode, uid):
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        try:
            flood(options.socket, mode, options.key)
        finally:
            os._exit(0)
    return child


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--uid", type=int, default=61191)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--audit")
    parser.add_argument("modes", nargs="*", default=["refused", "idle", "huge"])
    options = parser.parse_args()
    size = lambda: os.path.getsize(options.audit) if options.audit else 0
    idle = owner(options.socket, options.key, options.seconds)
    for mode in options.modes:
        uids = range(options.uid, options.uid + 4) if mode == "idle" else [options.uid]
        before = size()
        children = [start_flood(options, mode, uid) for uid in uids]
        time.sleep(1)
        loaded = owner(options.socket, options.key, options.seconds)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        print(json.dumps({"mode": mode, "idle": idle, "flood": loaded, "ratio_p99": round(loaded["p99"] / idle["p99"], 2),
                          "audit_bytes": size() - before}))


if __name__ == "__main__":
    main()
