"""Run the benchmark: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import backends, machine, probe, report
from benchmarks.options import Options
from benchmarks.worker import Record

SETS = ("resnet50", "gpt2", "small")
MEASUREMENTS = ("step", "fit", "probe")

EXAMPLES = """examples:
  python -m benchmarks
  python -m benchmarks --backend jax --set small --measure step
  python -m benchmarks --backend torch --set resnet50 --contender 'torch .*' --rounds 7
"""


def _arguments() -> argparse.Namespace:
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time the optimizers in turns with their peers and with one pass over memory.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--backend", nargs="+", choices=("tensorflow", "jax", "torch"), help="default: all three"
    )
    parser.add_argument("--set", nargs="+", choices=SETS, default=SETS, help="of tensors")
    parser.add_argument(
        "--device",
        choices=tuple(backends.ENVIRONMENTS),
        default=defaults.device,
        help="gpu needs the backends' builds for CUDA; its results are written to speed_gpu",
    )
    parser.add_argument(
        "--mode", nargs="+", help="eager, graph, xla, jit, compile, cuda graph; default: all"
    )
    parser.add_argument(
        "--contender", metavar="REGEX", help="takes part if its whole name matches; default: all"
    )
    parser.add_argument("--measure", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--rounds", type=int, default=defaults.rounds)
    parser.add_argument(
        "--seconds", type=float, default=defaults.seconds, help="of a turn at the least"
    )
    parser.add_argument(
        "--originals",
        action="store_true",
        help="time TensorFlow Addons and tf.keras 2 instead; needs the environment of bench-tfa",
    )
    parser.add_argument(
        "--add", action="store_true", help="to the results that are there, of the same versions"
    )
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    return parser.parse_args()


def _work(backend: str, tasks: list[Record], options: Options, **environment: str) -> list[Record]:
    """Do the tasks in a fresh process; return its records."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "records"
        command = [sys.executable, "-m", "benchmarks.worker", f"--output={output}"]
        command += [f"--tasks={json.dumps(tasks)}", f"--options={json.dumps(asdict(options))}"]
        device = backends.ENVIRONMENTS[options.device]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **device, **environment}
        if backend != "originals":
            environment["KERAS_BACKEND"] = backend
        subprocess.run(command, env=environment, check=True)
        return [json.loads(line) for line in output.read_text().splitlines()]


def _measured(arguments: argparse.Namespace, options: Options) -> Iterator[list[Record]]:
    """The records of one process after the other."""
    chosen = arguments.backend or ("tensorflow", "jax", "torch")
    all_modes = backends.MODES if options.device == "cpu" else backends.GPU_MODES
    for backend in ("originals",) if arguments.originals else chosen:
        modes = [m for m in all_modes[backend] if m in (arguments.mode or m)]
        for tensors in arguments.set:
            print(backend, tensors, file=sys.stderr)
            places = [{"backend": backend, "tensors": tensors, "mode": mode} for mode in modes]
            if "step" in arguments.measure:
                yield _work(backend, [{"what": "step", **place} for place in places], options)
            if "probe" in arguments.measure:
                yield from _probed(backend, places, options)
        if "fit" in arguments.measure and backend != "originals":
            print(backend, "fit", file=sys.stderr)
            yield _work(backend, [{"what": "fit", "backend": backend}], options)


def _probed(backend: str, places: list[Record], options: Options) -> Iterator[list[Record]]:
    """First step and memory of each contender, in a process of its own."""
    for place in places:
        task = {"what": "names", "backend": backend, "mode": place["mode"]}
        for record in _work(backend, [task], options):
            name = record.get("contender")
            if name is not None and options.takes(name):
                task = {"what": "probe", **place, "name": name}
                yield _work(backend, [task], options, **probe.ENVIRONMENT)


def _results(options: Options, records: list[Record], earlier: Record) -> Record:
    """What is written: the records so far, and earlier ones of what has not been measured anew.

    Raises:
        ValueError: If the earlier ones are of another machine or other versions.
    """
    before: dict[str, str] = earlier.get("versions", {})
    versions = dict(before)
    for record in records:
        if record["kind"] == "versions":
            versions |= {key: value for key, value in record.items() if key != "kind"}
    described = {"machine": machine.describe(options.device), "versions": versions}
    same = before.items() <= versions.items()
    if earlier and not (same and described["machine"] == earlier["machine"]):
        raise ValueError(
            f"--add needs results of this machine and these versions. Received: results of "
            f"{earlier['machine']} and {before}"
        )
    new = {_subject(r): r for r in records if r["kind"] in MEASUREMENTS}
    old = {_subject(r): r for r in earlier.get("records", [])}
    return described | {"options": asdict(options), "records": list((old | new).values())}


def _subject(record: Record) -> tuple[Any, ...]:
    return tuple(record.get(key) for key in ("kind", "backend", "set", "mode", "contender"))


def _write(folder: Path, name: str, results: Record) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.markdown(results)
    (folder / f"{name}.md").write_text(text)
    return text


def main() -> None:
    """Measure what the command line asks for, print the tables and write them down."""
    arguments = _arguments()
    options = Options(arguments.contender, arguments.rounds, arguments.seconds, arguments.device)
    name = "originals" if arguments.originals else "speed"
    if options.device == "gpu":
        name += "_gpu"
    file = arguments.output / f"{name}.json"
    earlier = json.loads(file.read_text()) if arguments.add and file.exists() else {}
    records: list[Record] = []
    text = ""
    for found in _measured(arguments, options):
        records += found
        # After each process: a run that is ended has not been for nothing.
        text = _write(arguments.output, name, _results(options, records, earlier))
    print(text)


if __name__ == "__main__":
    main()
