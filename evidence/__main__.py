"""Run the experiments and write the page: `python -m evidence`, or `make evidence`."""

from __future__ import annotations

import argparse

from evidence import experiments, page
from evidence.experiment import Options, is_complete, is_measured, load, save


def main() -> None:
    """Run what has no recorded result, then render everything."""
    names = [experiment.name for experiment in experiments.ALL]
    parser = argparse.ArgumentParser(
        prog="python -m evidence",
        description="Run the experiments that have no recorded result, one after the other, and "
        "write docs/evidence.md with its pictures. Trials that are done survive a kill.",
    )
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="which experiments")
    parser.add_argument("--again", action="store_true", help="also those with a recorded result")
    parser.add_argument(
        "--full", action="store_true", help="at the larger size, many hours; implies --again"
    )
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time (default: 1)")
    parser.add_argument(
        "--record", action="store_true", help="train nothing, record the trials that are done"
    )
    parser.add_argument("--render", action="store_true", help="run nothing, only write the page")
    arguments = parser.parse_args()
    for experiment in experiments.ALL:
        if arguments.render or experiment.name not in arguments.only:
            continue
        anew = arguments.again or arguments.full or arguments.record
        if anew or not is_complete(load(experiment.name)):
            print(f"== {experiment.name}", flush=True)
            options = Options(arguments.full, arguments.jobs, train=not arguments.record)
            results = experiment.run(options)
            if is_measured(results):
                save(experiment.name, results)
    page.write(experiments.ALL, load)


if __name__ == "__main__":
    main()
