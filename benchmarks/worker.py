"""One process of a benchmark: one backend, all of its chosen modes and sets.

Run as a module by `benchmarks.__main__`; writes the records of what it measured to a file.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import backends
from benchmarks.contenders import Contender, Running
from benchmarks.floor import floor_pass
from benchmarks.options import Options
from benchmarks.probe import probe
from benchmarks.shapes import SETS, Shape, arrays, parameters
from benchmarks.turns import in_turns

Record = dict[str, Any]
PACKAGES = (
    "surefoot",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-addons",
    "jax",
    "torch",
    "optax",
    "llvmlite",
    "numba",
    "numpy",
)


def _groups(contenders: list[Contender], size: int) -> Iterator[list[Contender]]:
    """Contenders with a floor in common, as many at a time as memory holds."""
    memory = next(
        1024 * int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    # Parameters, moments, and as much again that comes and goes: 24 bytes per parameter.
    together = max(1, memory // 2 // (24 * size))
    for floor in ("adam", "amsgrad"):
        alike = [contender for contender in contenders if contender.floor == floor]
        for start in range(0, len(alike), together):
            yield alike[start : start + together]


def _floor(module: ModuleType, shapes: list[Shape], one: Contender, options: Options) -> Running:
    """A pass over memory; on a GPU a copy that moves as many bytes."""
    if options.device == "cpu":
        return Running(floor_pass(shapes, amsgrad=one.floor == "amsgrad"), lambda: None)
    floor: Running = module.device_floor(round(one.floor_bytes * parameters(shapes) / 8))
    return floor


def _time_steps(backend: str, tensors: str, mode: str, options: Options) -> Iterator[Record]:
    module = backends.load(backend)
    shapes = SETS[tensors]()
    values = arrays(shapes, scale=0.05, seed=1)
    grads = module.gradients(arrays(shapes, scale=0.01, seed=2))
    chosen = [c for c in module.contenders(mode) if options.takes(c.name)]
    for group in _groups(chosen, parameters(shapes)):
        reference = _floor(module, shapes, group[0], options)
        running = {
            # Copies: a backend may share memory with what it is given, and write to it.
            c.name: (c.build([value.copy() for value in values], grads), c.period)
            for c in group
        }
        timings = in_turns(
            reference,
            running,
            rounds=options.rounds,
            seconds=options.seconds,
            warm_up=8,
        )
        del running, reference
        for contender in group:
            yield {
                "kind": "step",
                "backend": backend,
                "set": tensors,
                "mode": mode,
                "contender": contender.name,
                "ours": contender.ours,
                "floor": contender.floor,
                # What its own streams cost over its floor's.
                "own": contender.bytes_per_parameter / contender.floor_bytes,
                **asdict(timings[contender.name]),
            }


def _time_fit(backend: str, options: Options) -> Iterator[Record]:
    from benchmarks.fit import time_fit

    found = time_fit(
        backends.load(backend),
        backends.FIT_MODE[backend],
        chosen=options.takes,
        rounds=options.rounds,
        seconds=options.seconds,
    )
    for name, fit in found.items():
        yield {
            "kind": "fit",
            "backend": backend,
            "contender": name,
            "share": fit.share,
            **asdict(fit.timing),
        }


def _probe(backend: str, tensors: str, mode: str, name: str, options: Options) -> Iterator[Record]:
    module = backends.load(backend)
    shapes: list[Shape] = SETS[tensors]()
    contender = next(c for c in module.contenders(mode) if c.name == name)
    yield {
        "kind": "probe",
        "backend": backend,
        "set": tensors,
        "mode": mode,
        "contender": name,
        "ours": contender.ours,
        **asdict(probe(module, contender, shapes, options.device)),
    }


def _names(backend: str, mode: str) -> Iterator[Record]:
    for contender in backends.load(backend).contenders(mode):
        yield {"kind": "name", "contender": contender.name}


def _versions() -> Iterator[Record]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    yield {"kind": "versions", **found}


def records(task: Record, options: Options) -> Iterator[Record]:
    """What a task's measurement yields."""
    what = task.pop("what")
    if what == "names":
        yield from _names(**task)
    elif what == "probe":
        yield from _probe(options=options, **task)
    elif what == "fit":
        yield from _time_fit(options=options, **task)
    else:
        yield from _time_steps(options=options, **task)


def main() -> None:
    """Do the tasks given as JSON; write a line of JSON per record as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=json.loads, required=True)
    parser.add_argument("--options", type=json.loads, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    options = Options(**arguments.options)
    with arguments.output.open("w") as output:
        for record in _versions():
            print(json.dumps(record), file=output)
        for task in arguments.tasks:
            print("  ", " ".join(map(str, task.values())), file=sys.stderr, flush=True)
            for record in records(task, options):
                print(json.dumps(record), file=output, flush=True)


if __name__ == "__main__":
    main()
