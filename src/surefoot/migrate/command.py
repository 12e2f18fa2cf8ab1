"""The subcommand `surefoot migrate`."""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from surefoot.migrate.report import Report

FAILED = 2

_EXAMPLES = """\
examples:
  surefoot migrate --inspect old.h5             show what the file contains
  surefoot migrate old.h5 new.keras             a model saved by tf.keras 2, with its optimizer
  surefoot migrate saved_model/ new.keras       the same from a SavedModel
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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `surefoot migrate`.

    Args:
        arguments: `old`, `new` and `inspect`.

    Returns:
        0, or 2 with one line on standard error if the conversion fails.
    """
    from rich.console import Console

    from surefoot.migrate.conversion import convert
    from surefoot.migrate.errors import MigrationError, MissingOptimizerStateWarning
    from surefoot.migrate.loading import inspect

    if not arguments.inspect and arguments.new is None:
        return _failed("name the file to write (NEW.keras), or use --inspect")
    try:
        with warnings.catch_warnings():
            # The report contains the warning.
            warnings.simplefilter("ignore", MissingOptimizerStateWarning)
            if arguments.inspect:
                report = inspect(arguments.old)
            else:
                report = convert(arguments.old, arguments.new)
    except (MigrationError, OSError) as error:
        return _failed(str(error))
    console = Console()
    show(report, console)
    if not arguments.inspect:
        console.print(f"Written: {arguments.new}", markup=False, highlight=False)
    return 0


def _failed(message: str) -> int:
    line = " ".join(part.strip() for part in message.splitlines())
    print(f"surefoot migrate: {line}", file=sys.stderr)
    return FAILED


def show(report: Report, console: Console) -> None:
    """Prints a report as tables.

    Args:
        report: The report.
        console: The console to print to.
    """
    from rich.table import Table
    from rich.text import Text

    def row(table: Table, *cells: object) -> None:
        # Names come from the file and must not be interpreted as markup.
        table.add_row(*(Text(printable(cell)) for cell in cells))

    version = f", Keras {report.keras_version}" if report.keras_version else ""
    console.print(Text(printable(f"{report.source}: {report.kind}{version}")))
    layers = Table("Layer", "Class", "Weights", "Parameters")
    for name, class_name, weights, parameters in report.layers:
        row(layers, name, class_name, weights, f"{parameters:,}")
    console.print(layers)
    weights_table = Table("Weight", "Shape", *(["Variable"] if report.new_optimizer else []))
    for old, new, shape in report.weights:
        row(weights_table, old, shape, *([new] if report.new_optimizer else []))
    console.print(weights_table)
    if report.optimizer:
        optimizer = Table("Optimizer", report.optimizer)
        if report.new_optimizer:
            row(optimizer, "now", report.new_optimizer)
        row(optimizer, "step", "no state in the file" if report.step is None else report.step)
        row(optimizer, "state", f"{len(report.state)} arrays")
        for name, value in report.hyperparameters.items():
            row(optimizer, name, f"{value:.7g}" if isinstance(value, float) else value)
        console.print(optimizer)
    else:
        console.print("No optimizer: the model was not compiled.")
    for note in report.notes:
        console.print(Text(f"- {printable(note)}"))


def printable(value: object) -> str:
    """Text without control characters, which could confuse a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(value))
