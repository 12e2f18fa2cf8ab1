"""The table of results on the terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from surefoot.compare.formatting import duration, factor_text, number, rate
from surefoot.compare.statistics.summary import OptimizerSummary, Summary


def closing_table(summary: Summary) -> Table:
    """One line per optimizer, best first."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("\noptimizer", overflow="fold")
    table.add_column("best\nlearning rate", justify="right")
    table.add_column(f"{summary.metric}\n95 % interval", justify="right")
    table.add_column("good\nlearning rates", justify="right")
    table.add_column("to\ntarget", justify="right")
    table.add_column("per\nstep", justify="right")
    for optimizer in summary.optimizers:
        table.add_row(*_cells(optimizer), end_section=True)
    for label in summary.failures:
        table.add_row(Text(label), "-", "could not be trained", "-", "-", "-")
    return table


def _cells(optimizer: OptimizerSummary) -> list[Text]:
    diverged = (
        f"\n{optimizer.diverged} of {optimizer.trials} diverged" if optimizer.diverged else ""
    )
    per_step = duration(optimizer.seconds_per_step)
    best, width = optimizer.best, optimizer.width
    cells = [optimizer.label + diverged, "-", "-", "none", "not reached", per_step]
    if best is not None:
        spread = "" if best.deviation is None else f" ±{number(best.deviation, 2)}"
        interval = "-" if best.low is None else f"{number(best.low)} to {number(best.high)}"
        cells[1] = rate(best.learning_rate) + ("\n(edge)" if optimizer.is_at_edge else "")
        cells[2] = f"{number(best.mean)}{spread}\n{interval}"
        if best.steps_to_target is not None:
            seconds = duration(optimizer.seconds_to_target)
            cells[4] = f"{best.steps_to_target:g} steps\n{seconds}"
    if width is not None:
        cells[3] = factor_text(width).replace(" (", "\n").rstrip(")")
    return [Text(cell) for cell in cells]
