#!/usr/bin/env python3
"""Load on `lumachrome serve`: many clients, too many, slow ones, and for a long time.

    python3 tests/serve/load.py [--binary build/apps/lumachrome] [--requests 10000] [--minutes 1] [--only NAME]

Starts a server of its own on a free port and prints a table. Standard library only. Exit code 1 when a claim does not hold.
"""
import argparse
import collections
import http.client
import json
import multiprocessing
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib


def png(width, height, seed=1):
    """A photo: smooth waves with a little noise, in colour."""
    noise = random.Random(seed)
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            rows += bytes(((x * 2 + y) % 256, (x + y * 3) % 256, noise.randrange(40) + 100))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")


class Server:
    def __init__(self, binary, words):
        self.process = subprocess.Popen([binary, "serve", "--port", "0", "--json", "-q", *words], stdout=subprocess.PIPE)
        self.port = json.loads(self.process.stdout.readline())["port"]

    def memory_mib(self):
        with open(f"/proc/{self.process.pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Client:
    """One connection, opened again when the server closes it between requests."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("localhost", port, timeout=60)

    def ask(self, method, path, body=None):
        start = time.perf_counter()
        self.connection.request(method, path, body, {"X-Lumachrome": "1"})
        response = self.connection.getresponse()
        response.read()
        return response.status, response.getheader("Retry-After"), time.perf_counter() - start


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def watch(port, done, results):
    outcomes, milliseconds = collections.Counter(), []
    while not done.wait(0.02):
        try:
            status, _, seconds = Client(port).ask("GET", "/healthz")
            outcomes[status] += 1
            milliseconds.append(1000 * seconds)
        except OSError as error:
            outcomes[type(error).__name__] += 1
    results.put((outcomes, milliseconds))


class Watcher:
    """A normal client in a process of its own: beside the others' threads it would wait for the interpreter."""

    def __init__(self, port):
        self.done, self.results = multiprocessing.Event(), multiprocessing.Queue()
        self.process = multiprocessing.Process(target=watch, args=(port, self.done, self.results))
        self.process.start()

    def stop(self):
        self.done.set()
        results = self.results.get()
        self.process.join()
        return results


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.outcomes = collections.Counter()
        self.seconds = collections.defaultdict(list)

    def add(self, name, outcome, seconds):
        with self.lock:
            self.outcomes[outcome] += 1
            self.seconds[name].append(seconds)

    def milliseconds(self, name, share):
        return percentile([1000 * seconds for seconds in self.seconds[name]], share)

    def unexpected(self):
        return {outcome: count for outcome, count in self.outcomes.items() if outcome not in ("200", "503 Retry-After")}


def many(port, clients, requests, choose):
    """`requests` in all, from so many clients at a time, each as choose(i) says."""
    tally, numbers, lock = Tally(), iter(range(requests)), threading.Lock()

    def work():
        client = Client(port)
        while True:
            with lock:
                i = next(numbers, None)
            if i is None:
                return
            name, method, path, body = choose(i)
            try:
                status, retry, seconds = client.ask(method, path, body)
                tally.add(name, f"{status} Retry-After" if retry else str(status), seconds)
            except Exception as error:
                tally.add(name, type(error).__name__, 0)
                client = Client(port)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally, time.perf_counter() - start


HEALTH, MODEL = ("health", "GET", "/healthz", None), ("model", "GET", "/api/v1/model", None)


def load(server, options, report):
    photo = png(96, 64)
    classify = ("classify", "POST", "/api/v1/classify?top=1", photo)
    kinds = [HEALTH] * 6 + [MODEL] * 3 + [classify]
    before = server.files()
    tally, seconds = many(server.port, 64, options.requests, lambda i: kinds[i % len(kinds)])
    report("load", not tally.unexpected(), f"{options.requests} requests, 64 clients: {options.requests / seconds:.0f}/s, "
           f"{dict(tally.outcomes)}; health p50 {tally.milliseconds('health', 0.5):.1f} p99 {tally.milliseconds('health', 0.99):.1f} ms, "
           f"classify p50 {tally.milliseconds('classify', 0.5):.1f} ms")
    time.sleep(0.5)
    report("leaks", server.files() <= before, f"open files {before} before, {server.files()} after")


def overload(server, options, report):
    photo = png(640, 480)
    work = ("classify", "POST", "/api/v1/classify?top=1", photo)
    health = Watcher(server.port)
    tally, seconds = many(server.port, 250, options.requests // 5, lambda i: work)  # one in work and 64 waiting
    outcomes, milliseconds = health.stop()
    report("overload", not tally.unexpected() and tally.outcomes["200"] > 0,
           f"{options.requests // 5} photos from 250 clients in {seconds:.1f} s: {dict(tally.outcomes)}")
    report("health meanwhile", set(outcomes) == {200} and percentile(milliseconds, 0.99) < 50,
           f"{dict(outcomes)}, p50 {percentile(milliseconds, 0.5):.1f} p99 {percentile(milliseconds, 0.99):.1f} ms")
    start = time.perf_counter()
    status = Client(server.port).ask("POST", work[2], photo)[0]
    report("recovery", status == 200 and time.perf_counter() - start < 1, f"{1000 * (time.perf_counter() - start):.0f} ms to the next photo")


def slow(server, options, report):
    deadline, clients = 5, []
    for _ in range(500):
        client = socket.create_connection(("localhost", server.port))
        client.setblocking(False)
        client.send(b"GET /healthz HTTP/1.1\r\n")
        clients.append(client)
    normal, start, closed = Watcher(server.port), time.perf_counter(), {}
    while len(closed) < len(clients) and time.perf_counter() - start < 2 * deadline:
        for client in clients:
            if client in closed:
                continue
            try:
                client.send(b"X")
                if client.recv(100) == b"":
                    closed[client] = time.perf_counter() - start
            except BlockingIOError:
                pass
            except OSError:
                closed[client] = time.perf_counter() - start
        time.sleep(0.05)
    outcomes, milliseconds = normal.stop()
    last = max(closed.values(), default=0)
    report("slow clients", len(closed) == 500 and last < deadline + 0.5, f"500 drip a byte at a time: {len(closed)} cut, the last after {last:.1f} s")
    report("others meanwhile", set(outcomes) == {200} and max(milliseconds) < 100,
           f"{dict(outcomes)}, at most {max(milliseconds):.1f} ms")


def soak(server, options, report):
    photos = [png(160 + 16 * i, 120, i) for i in range(4)]

    def once(i):
        client = Client(server.port)
        client.connection.request("POST", "/api/v1/photos", photos[i % 4], {"X-Lumachrome": "1"})
        photo = json.loads(client.connection.getresponse().read())
        if "id" in photo:
            path = f"/api/v1/photos/{photo['id']}"
            client.ask("POST", path + "/colorize", json.dumps({"max": 100, "saturation": 1 + i % 3 / 10}))
            client.ask("GET", path + "/original?max=80")
            client.ask("DELETE", path)

    warm, samples, rounds = time.time() + min(20, 15 * options.minutes), [], 0
    end = time.time() + 60 * options.minutes
    while time.time() < end:
        once(rounds)
        rounds += 1
        if time.time() > warm:
            samples.append(server.memory_mib())
    fifth = max(1, len(samples) // 5)
    first, last = sum(samples[:fifth]) / fifth, sum(samples[-fifth:]) / fifth
    drift = 100 * (last - first) / first
    report("soak", drift < 2, f"{options.minutes} min, {rounds} photos: {first:.1f} to {last:.1f} MiB, drift {drift:+.2f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tests = {"load": load, "overload": overload, "slow": slow, "soak": soak}
    parser.add_argument("--binary", default="build/apps/lumachrome")
    parser.add_argument("--weights", help="instead of the default model")
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--minutes", type=float, default=1, help="of the soak")
    parser.add_argument("--only", choices=tests)
    options = parser.parse_args()
    server = Server(options.binary, ["--weights", options.weights] if options.weights else [])
    failed = []

    def report(name, holds, text):
        print(f"{name:18}{'ok' if holds else 'FAILED':8}{text}", flush=True)
        if not holds:
            failed.append(name)

    try:
        for name, test in tests.items():
            if options.only in (None, name):
                test(server, options, report)
    finally:
        code = server.stop()
    report("end", code == 0, f"exit code {code} after SIGTERM")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
