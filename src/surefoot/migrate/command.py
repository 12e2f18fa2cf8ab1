"""The subcommand `surefoot migrate`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.migrate.errors import MigrationError
    from surefoot.migrate.report import Report

FAILED = 2

_EXAMPLES = """\
examples:
  surefoot migrate --inspect old.h5             show the content, and what a migration needs
  surefoot migrate old.h5 new.keras             a model saved by tf.keras 2, with its optimizer
  surefoot migrate saved_model/ new.keras       the same from a SavedModel
  surefoot migrate old.h5 new.keras --weights-only
                                                whatever its optimizer, which is left out
  surefoot migrate old.h5 new.keras --custom layers.py:Scale --custom layers.py:replaced
                                                a layer of yours, and a dictionary of others
  surefoot migrate old.h5 new.keras --check recorded.npz
                                                write only what computes the same outputs
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "migrate",
        help="convert a model of tf.keras 2 and TensorFlow Addons to Keras 3",
        description="Convert a whole model that Keras 2 saved (.h5, .keras or a SavedModel\n"
        "directory) to a .keras file of Keras 3, with the state of its optimizer. Reading\n"
        "SavedModels and checkpoints needs TensorFlow.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", metavar="OLD", help="the old file, directory or checkpoint prefix")
    parser.add_argument("new", metavar="NEW.keras", nargs="?", help="the file to write")
    parser.add_argument("--inspect", action="store_true", help="show the content, write nothing")
    parser.add_argument(
        "--weights-only", action="store_true", help="leave out the optimizer, the loss and metrics"
    )
    parser.add_argument(
        "--custom",
        metavar="MODULE:NAME",
        action="append",
        default=[],
        help="a layer, loss, metric or schedule of yours, or a dictionary of them by the names in "
        "the file; package.module:name or file.py:name; may be given several times",
    )
    parser.add_argument(
        "--check",
        metavar="FILE.npz",
        help="compare with recorded inputs (input_0, ...) and outputs (output_0, ...) of the "
        "original; without NEW.keras nothing is written",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        help="for --check: the difference allowed, as a fraction of the largest value (1e-4)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `surefoot migrate`.

    Args:
        arguments: The arguments of `add_parser`.

    Returns:
        0, or 2 with a line on standard error for each thing that is in the way.
    """
    if not (arguments.inspect or arguments.new or arguments.check):
        return _failed("name the file to write (NEW.keras), or use --inspect or --check")
    if arguments.inspect and (arguments.weights_only or arguments.check):
        return _failed("--inspect goes with neither --weights-only nor --check")
    if arguments.tolerance is not None and not arguments.check:
        return _failed("--tolerance is that of --check, which is missing")

    from surefoot.migrate.errors import (
        LeftOutWarning,
        MigrationError,
        MissingOptimizerStateWarning,
    )

    try:
        with warnings.catch_warnings():
            # The report contains these warnings.
            warnings.simplefilter("ignore", MissingOptimizerStateWarning)
            warnings.simplefilter("ignore", LeftOutWarning)
            report = _report(arguments)
    except MigrationError as error:
        return _failed(_for_the_command_line(error))
    except OSError as error:
        return _failed(str(error))

    from rich.console import Console

    from surefoot.migrate.showing import show

    console = Console()
    show(report, console)
    if arguments.new and not arguments.inspect:
        console.print(f"Written: {arguments.new}", markup=False, highlight=False)
    return 0


def _report(arguments: argparse.Namespace) -> Report:
    from surefoot.migrate.checking import TOLERANCE, check
    from surefoot.migrate.conversion import convert
    from surefoot.migrate.loading import inspect, load_model

    known = _custom_objects(arguments.custom)
    if arguments.inspect:
        return inspect(arguments.old, known)
    tolerance = TOLERANCE if arguments.tolerance is None else arguments.tolerance
    if arguments.new:
        return convert(
            arguments.old,
            arguments.new,
            known,
            weights_only=arguments.weights_only,
            check=arguments.check,
            tolerance=tolerance,
        )
    model, report = load_model(
        arguments.old, known, weights_only=arguments.weights_only, return_report=True
    )
    report.differences = check(model, arguments.check, tolerance)
    return report


def _custom_objects(references: Iterable[str]) -> dict[str, Any]:
    from surefoot.arguments.importing import import_object
    from surefoot.migrate.errors import MigrationError

    known: dict[str, Any] = {}
    for reference in references:
        what = "what --custom accepts: a class, a function or a dictionary of such"
        found = import_object(reference, what, MigrationError)
        if not isinstance(found, dict):
            name = getattr(found, "__name__", None)
            if not callable(found) or name is None:
                raise MigrationError(f"{reference!r} is not {what}. Received: {found!r}.")
            found = {name: found}
        known |= found
    return known


def _for_the_command_line(error: MigrationError) -> str:
    """The error's text with the arguments that are the way out here."""
    lines = [error.reason.rstrip()]
    if error.needs:
        names = ", ".join(f"{name!r}: ..." for name in error.needs)
        lines.append(
            f"Pass {error.needed()} with --custom file.py:name, the name of an object or of a "
            f"dictionary {{{names}}}."
        )
    if error.weights_only:
        lines.append(
            "With --weights-only the weights are converted without optimizer, loss and metrics."
        )
    return ("\n" if "\n" in error.reason else " ").join(lines)


def _failed(message: str) -> int:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    several = any(line.startswith("- ") for line in lines)
    print(f"surefoot migrate: {(chr(10) if several else ' ').join(lines)}", file=sys.stderr)
    return FAILED
