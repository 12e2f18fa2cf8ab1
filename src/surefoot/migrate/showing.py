"""Prints a report on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from surefoot.migrate.report import Report


def show(report: Report, console: Console) -> None:
    """Prints a report as tables.

    Args:
        report: The report.
        console: The console to print to.
    """

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
        optimizer = Table("Optimizer", printable(report.optimizer))
        if report.new_optimizer:
            row(optimizer, "now", report.new_optimizer)
        row(optimizer, "step", "no state in the file" if report.step is None else report.step)
        row(optimizer, "state", f"{len(report.state)} arrays")
        for name, value in report.hyperparameters.items():
            row(optimizer, name, f"{value:.7g}" if isinstance(value, float) else value)
        console.print(optimizer)
    else:
        console.print("No optimizer: the model was not compiled.")
    for note in [
        *(f"Left out: {entry}." for entry in report.left_out),
        *report.notes,
        *(f"In the way: {problem}" for problem in report.problems),
        *(f"{name} agrees: {d:.1e} of its largest value" for name, d in report.differences.items()),
    ]:
        console.print(Text(f"- {printable(note)}"))
    if report.needs:
        console.print("Fill in and pass, in Python or as a dictionary with --custom file.py:name:")
        for line in report.custom_objects().splitlines():
            console.print(Text(printable(line)), soft_wrap=True)


def printable(value: object) -> str:
    """Text without control characters, which could confuse a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(value))
