"""Runs seghead and its peers on the same tensors, in turns, and prints how they compare.

    pip install torch onnx onnxruntime
    cargo build --release -p seghead-cli
    cargo build --release --manifest-path benches/peers/Cargo.toml
    python benches/peers/run.py [--only argmax] [--peers pytorch,burn] [--rounds 5] [--end-to-end]

A figure is the median of the medians of all rounds, in milliseconds; a ratio is that of a peer over that of seghead.
seghead's is the time on the device, or with --end-to-end from a slice to results on the host. A peer that is not
installed, or has no such operator, is left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SMALL, CITY, LARGE = ["4x512x512", "21x512x512"], "19x1024x2048", "150x512x512"
PLAIN = [*SMALL, CITY, LARGE]
UPSAMPLED = [("11x90x120", 4), ("150x128x128", 4), ("19x256x512", 4)]

# Operator, shape, scale, and how many times faster than PyTorch it is to be at the least.
CASES = (
    [("argmax", shape, 1, 12 if shape != LARGE else 3) for shape in PLAIN]
    + [("argmax-confidence", shape, 1, 2.2) for shape in PLAIN]
    + [("cross-entropy", shape, 1, 1 if shape in SMALL else 2) for shape in PLAIN]
    + [(operator, shape, 1, 1 / 2.5 if shape in SMALL else 1) for operator in ("softmax", "log-softmax") for shape in PLAIN]
    + [(operator, shape, 1, 1 / 2) for operator in ("softmax-height", "softmax-width") for shape in PLAIN]
    + [("sigmoid", shape, 1, 1 / 3) for shape in PLAIN]
    + [("segment", shape, scale, 15) for shape, scale in UPSAMPLED]
    + [("segment", shape, scale, target) for shape, _ in UPSAMPLED for scale, target in ((1.6, 6), (3.2, 10))]
    + [("segment-confidence", shape, scale, 3 if shape.startswith("11x") else 6) for shape, scale in UPSAMPLED]
)
# PyTorch's max(1) finds the class too, and faster than its argmax(1).
BY_MAX = {shape: 1.5 if shape != LARGE else 1 for shape in PLAIN}
BURN = 8


class Peer:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def median(self, operator, shape, scale, runs):
        """None where it has no such operator, or has died."""
        try:
            self.process.stdin.write(f"{operator} {shape} {scale} {runs}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            return None
        times = json.loads(answer) if answer.strip() else None
        return times and statistics.median(times)


def target_folder(manifest):
    command = ["cargo", "metadata", "--format-version=1", "--no-deps", "--manifest-path", manifest]
    return Path(json.loads(subprocess.check_output(command))["target_directory"]) / "release"


def seghead(binary, operator, shape, scale, runs, end_to_end):
    command = [binary, "bench", "--json", "-q", "--op", operator, "--shape", shape, "--runs", str(runs)]
    report = json.loads(subprocess.check_output([*command, "--scale", str(scale)]))
    return report["rows"][0]["end_to_end_ms" if end_to_end else "device_ms"]["median"], report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="operators and shapes with this in their name, such as 'argmax 21x'")
    parser.add_argument("--peers", default="pytorch,onnxruntime,burn,loops")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--end-to-end", action="store_true")
    parser.add_argument("--json", help="write the figures to this file too")
    args = parser.parse_args()

    binary = target_folder(HERE.parent.parent / "Cargo.toml") / "seghead"
    rust = target_folder(HERE / "Cargo.toml") / "seghead-peers"
    commands = {
        "pytorch": [sys.executable, HERE / "pytorch.py"],
        "onnxruntime": [sys.executable, HERE / "onnx_runtime.py"],
        "burn": [rust, "burn"],
        "loops": [rust, "loops"],
    }
    peers = {}
    for name in args.peers.split(","):
        try:
            peers[name] = Peer(commands[name])
        except FileNotFoundError as error:
            print(f"{name}: {error}", file=sys.stderr)

    cases = [case for case in CASES if args.only in f"{case[0]} {case[1]} x{case[2]}"]
    figures = []
    report = None
    for operator, shape, scale, target in cases:
        times = {}
        for _ in range(args.rounds):
            ours, report = seghead(binary, operator, shape, scale, args.runs, args.end_to_end)
            times.setdefault("seghead", []).append(ours)
            for name, peer in peers.items():
                asked = [operator] + (["argmax-by-max"] if (name, operator) == ("pytorch", "argmax") else [])
                for one in asked:
                    median = peer.median(one, shape, scale, args.runs)
                    if median is not None:
                        times.setdefault(name if one == operator else f"{name} max(1)", []).append(median)
        medians = {name: statistics.median(all) for name, all in times.items()}
        targets = {"pytorch": target, "pytorch max(1)": BY_MAX.get(shape), "burn": BURN}
        figures.append({"op": operator, "shape": shape, "scale": scale, "ms": medians, "targets": targets})
        print(f"{operator} {shape} x{scale}", file=sys.stderr)

    print(f"{report['adapter']}, {report['driver']}; {os.cpu_count()} processors\n" if report else "nothing to run")
    print(f"{'operator':19} {'shape':13} {'scale':>5}  {'seghead':>8}  peer              {'ms':>9}  ratio  at least")
    for row in figures:
        ours = row["ms"].pop("seghead")
        for name, theirs in row["ms"].items():
            target = row["targets"].get(name)
            ratio = theirs / ours
            verdict = "" if target is None else f"{target:8.2f}  {'' if ratio >= target else 'missed'}"
            where = f"{row['op']:19} {row['shape']:13} {row['scale']:5}"
            print(f"{where}  {ours:8.2f}  {name:17} {theirs:9.2f}  {ratio:5.2f}  {verdict}".rstrip())
        row["ms"]["seghead"] = ours
    if args.json:
        Path(args.json).write_text(json.dumps({"report": report, "figures": figures}, indent=1))


main()
