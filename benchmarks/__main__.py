"""Run the benchmark: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

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
    parser.add_argument("--mode", nargs="+", help="eager, graph, xla, jit; default: all")
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
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    return parser.parse_args()


def _work(backend: str, tasks: list[Record], options: Options, **environment: str) -> list[Record]:
    """Do the tasks in a fresh process; return its records."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "records"
        command = [sys.executable, "-m", "benchmarks.worker", f"--output={output}"]
        command += [f"--tasks={json.dumps(tasks)}", f"--options={json.dumps(asdict(options))}"]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
        if backend != "originals":
            environment["KERAS_BACKEND"] = backend
        subprocess.run(command, env=environment, check=True)
        return [json.loads(line) for line in output.read_text().splitlines()]


def _measure(arguments: argparse.Namespace, options: Options) -> list[Record]:
    chosen = arguments.backend or ("tensorflow", "jax", "torch")
    found: list[Record] = []
    for backend in ("originals",) if arguments.originals else chosen:
        print(backend, file=sys.stderr)
        modes = [m for m in backends.MODES[backend] if m in (arguments.mode or m)]
        places = [
            {"backend": backend, "tensors": tensors, "mode": mode}
            for tensors in arguments.set
            for mode in modes
        ]
        tasks: list[Record] = []
        if "step" in arguments.measure:
            tasks += [{"what": "step", **place} for place in places]
        if "fit" in arguments.measure and backend != "originals":
            tasks.append({"what": "fit", "backend": backend})
        found += _work(backend, tasks, options)
        if "probe" in arguments.measure:
            for place in places:
                task = {"what": "names", "backend": backend, "mode": place["mode"]}
                for record in _work(backend, [task], options):
                    name = record.get("contender")
                    if name is not None and options.takes(name):
                        task = {"what": "probe", **place, "name": name}
                        found += _work(backend, [task], options, **probe.ENVIRONMENT)
    return found


def main() -> None:
    """Measure what the command line asks for, print the tables and write them down."""
    arguments = _arguments()
    options = Options(arguments.contender, arguments.rounds, arguments.seconds)
    records = _measure(arguments, options)
    versions: dict[str, str] = {}
    for record in records:
        if record["kind"] == "versions":
            versions |= record
    versions.pop("kind")
    results = {
        "machine": machine.describe(),
        "versions": versions,
        "options": asdict(options),
        "records": [r for r in records if r["kind"] in MEASUREMENTS],
    }
    name = "originals" if arguments.originals else "speed"
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.markdown(results)
    (arguments.output / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
