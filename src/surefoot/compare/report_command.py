"""The subcommand `surefoot report`."""

import argparse
from pathlib import Path
from typing import Any

from surefoot.compare.command import check_dependencies, fault, refuse
from surefoot.compare.errors import UsageError

_EPILOG = """\
examples:
  surefoot report surefoot-report
  surefoot report monday tuesday --out both
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "report",
        help="rebuild the report of a comparison, or merge several",
        description="Rebuild report.html, results.csv and results.json from the trials on disk. "
        "Runs of the same task with the same settings are merged; each other run gets a section.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument(
        *("--out", "--output"), type=Path, metavar="DIR", help="default: DIR, if only one is given"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `surefoot report`."""
    try:
        check_dependencies()
        print(f"report: {_rebuild(arguments.folders, arguments.out)}")
    except UsageError as error:
        return refuse(error)
    except OSError as error:
        return refuse(fault(error))
    return 0


def _rebuild(folders: list[Path], out: Path | None) -> Path:
    from surefoot.compare.report.html import merge, write_report
    from surefoot.compare.trials.store import FILE, read

    runs = merge([read(folder / FILE) for folder in folders])
    if out is None:
        if len(folders) > 1:
            raise UsageError("several runs are given; choose where to write with --out DIR")
        out = folders[0]
    out.mkdir(parents=True, exist_ok=True)
    return write_report(out, runs)
