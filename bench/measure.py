# SPDX-License-Identifier: MIT
"""How a program in Python measures: as measure.lua, which says how it is called."""

import math
import os
import sys
import time

SECONDS = float(os.environ.get("BENCH_SECONDS", 0.5))
HOST = "127.0.0.1"
PORT = int(os.environ.get("BENCH_PORT", 6379))
TLS_PORT = int(os.environ.get("BENCH_TLS_PORT", 0))
CA = os.environ.get("BENCH_CA")


def say(name, operations, amount, size=None):
    print(name, operations, "%.9f" % amount, "-" if size is None else "%.0f" % size, flush=True)


async def measure(name, step, run):
    n = step
    while True:
        start = time.perf_counter()
        await run(n)
        took = time.perf_counter() - start
        if took >= SECONDS / 5:
            break
        n *= 2
    n = max(step, int(n * SECONDS / took / step) * step)
    start = time.perf_counter()
    size = await run(n)
    say(name, n, time.perf_counter() - start, size / n)


def percentiles(name, samples):
    samples.sort()
    for part, share in (("50", 0.5), ("99", 0.99), ("999", 0.999)):
        say("%s-p%s" % (name, part), 1, samples[math.ceil(len(samples) * share) - 1])


def total(value):
    """The length of all strings in a value."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(total(k) + total(v) for k, v in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return sum(map(total, value))
    return 0


async def main(workloads):
    if "--list" in sys.argv[1:]:
        print("\n".join(workloads))
        return
    for name in sys.argv[1:]:
        step, run = workloads[name]
        if step:
            await measure(name, step, run)
        else:
            await run(name)
