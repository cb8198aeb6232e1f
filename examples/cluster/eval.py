#!/usr/bin/env python3
"""Evaluates a data set on the machines of a Ray cluster.

    pip install ray
    python3 eval.py LOGITS_DIR LABELS_DIR --ignore-index 255 --classes names.txt --csv scores.csv

Every task evaluates a shard with `seghead eval --shard I/N --save-state`, and the states are merged here: counts of
pixels, so the result is exactly that of a single run. The folders are the same on every machine (a shared file system),
and so is the command. Options that are not this script's go to the merge, which reports.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import ray


# A GPU for each task where the cluster has some; a software adapter takes the processors.
@ray.remote
def evaluate(command: list[str], shard: str) -> tuple[bytes, str, int]:
    """The state of a shard, what the evaluation complained of, and its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder, "state.json")
        command = [*command, "--shard", shard, "--save-state", state, "--quiet", "--json"]
        try:
            run = subprocess.run(command, capture_output=True)
        except OSError as error:
            return b"", str(error), 127
        return state.read_bytes() if state.exists() else b"", run.stderr.decode(errors="replace"), run.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logits")
    parser.add_argument("labels")
    parser.add_argument("--ignore-index")
    parser.add_argument("--resize")
    parser.add_argument("--layout")
    parser.add_argument("--boundary")
    parser.add_argument("--calibration", nargs="?", const="15")
    parser.add_argument("--shards", type=int, default=0, help="how many tasks; by default one for each processor")
    parser.add_argument("--seghead", default="seghead", help="the command, on every machine")
    args, of_merge = parser.parse_known_args()
    # What is counted is the shards' business; what is made of it, the merge's.
    of_counts = ["ignore_index", "resize", "layout", "boundary", "calibration"]
    given = {"--" + name.replace("_", "-"): getattr(args, name) for name in of_counts}
    of_shards = [f"{option}={value}" for option, value in given.items() if value is not None]

    ray.init(log_to_driver=False, include_dashboard=False)
    count = args.shards or int(ray.cluster_resources().get("CPU", 1))
    command = [args.seghead, "eval", args.logits, args.labels, *of_shards]
    # Counted from 1.
    results = ray.get([evaluate.remote(command, f"{i}/{count}") for i in range(1, count + 1)])

    with tempfile.TemporaryDirectory() as folder:
        states = []
        for i, (state, complaints, status) in enumerate(results, 1):
            if not state:
                print(f"shard {i}/{count}: exit status {status}: {complaints.strip()}", file=sys.stderr)
                return 1
            states.append(Path(folder, f"{i}.json"))
            states[-1].write_bytes(state)
        # Files that could not be evaluated are in the states: the merge lists them, and its exit status says so.
        return subprocess.run([args.seghead, "eval", *of_merge, "--merge", *states]).returncode


if __name__ == "__main__":
    sys.exit(main())
