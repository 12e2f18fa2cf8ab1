"""What `import surefoot` adds to `import keras`: `python -m benchmarks.import_time`.

Each round starts a fresh process per backend, that imports Keras first and surefoot then, and takes
both times in it. Python's files are read once beforehand, so that no round pays for the disk.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks.fresh_process import BACKENDS, output

PROGRAM = """
import time
start = time.perf_counter()
import keras
middle = time.perf_counter()
import surefoot
print(middle - start, time.perf_counter() - middle)
"""


def take(backend: str) -> tuple[float, float]:
    """Seconds of both imports in a fresh process."""
    keras, ours = map(float, output(backend, PROGRAM))
    return keras, ours


def main() -> None:
    """Measure in turns and print a table of medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_time", description=__doc__)
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in arguments.backend}
    for name in times:
        take(name)
    for _ in range(arguments.rounds):
        for name, taken in times.items():
            taken.append(take(name))
    print("| backend | `import keras`, s | then `import surefoot`, s | largest |")
    print("|---|---:|---:|---:|")
    for name, taken in times.items():
        keras, ours = zip(*taken, strict=True)
        middle = statistics.median(ours)
        print(f"| {name} | {statistics.median(keras):.2f} | {middle:.3f} | {max(ours):.3f} |")


if __name__ == "__main__":
    main()
