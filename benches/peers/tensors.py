"""The tensors that `seghead bench` measures with, and the requests of `run.py`: a line `OPERATOR CxHxW SCALE RUNS` is
answered by a JSON list of milliseconds, or null where a peer has no such operator."""

import json
import sys
import time

import numpy as np


def uniform(i):
    return (hashed(i) >> 8).astype(np.float32) / np.float32(1 << 24)


def hashed(i):
    x = i * np.uint32(0x9E3779B9)
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def logits(shape):
    """Sums of three uniform numbers, spread like N(0, 3²)."""
    i = np.arange(np.prod(shape), dtype=np.uint32) * np.uint32(3)
    x = 6 * (uniform(i) + uniform(i + np.uint32(1)) + uniform(i + np.uint32(2)) - np.float32(1.5))
    return x.reshape(1, *shape)


def targets(shape):
    classes, height, width = shape
    return (hashed(np.arange(height * width, dtype=np.uint32)) % np.uint32(classes)).reshape(1, height, width)


def serve(prepare):
    """Answers requests: `prepare(operator, shape, size)` returns what is to be timed, or None."""
    for line in sys.stdin:
        operator, shape, scale, runs = line.split()
        shape = tuple(int(side) for side in shape.split("x"))
        size = tuple(int(side * float(scale)) for side in shape[1:])
        work = prepare(operator, shape, size)
        print(json.dumps(work and measure(work, int(runs))), flush=True)


def measure(work, runs):
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times[2:]
