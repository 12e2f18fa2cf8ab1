"""The table of results on the terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from surefoot.compare.formatting import duration, factor_text, number, parts, rate
from surefoot.compare.statistics.method import in_short
from surefoot.compare.statistics.summary import OptimizerSummary, Summary

# What the other columns need; the names of optimizers have the rest, and never less than this.
_NUMBERS = 64
_NARROWEST = 16


def closing_table(summary: Summary, width: int) -> Table:
    """One line per optimizer, best first.

    Args:
        summary: What to show.
        width: Characters in a line of the terminal. A long name is cut where a line may end.
    """
    for_names = max(width - _NUMBERS, _NARROWEST)
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        header_style="bold",
        caption=Text(in_short(summary)),
        caption_justify="left",
    )
    table.add_column("optimizer", no_wrap=True)
    table.add_column("learning\nrate", justify="right")
    metric = summary.metric.replace(" ", "\n", 1)
    table.add_column(f"{metric}\n95 % interval", justify="right")
    table.add_column("good\nrates", justify="right")
    table.add_column("to\ntarget", justify="right")
    table.add_column("per\nstep", justify="right")
    for optimizer in summary.optimizers:
        table.add_row(*_cells(optimizer, for_names), end_section=True)
    for label in summary.failures:
        table.add_row(Text(_name(label, for_names)), "-", "could not be trained", "-", "-", "-")
    return table


def _name(label: str, width: int) -> str:
    lines = [""]
    for part in parts(label):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _cells(optimizer: OptimizerSummary, for_names: int) -> list[Text]:
    diverged = (
        f"\n{optimizer.diverged} of {optimizer.trials} diverged" if optimizer.diverged else ""
    )
    per_step = duration(optimizer.seconds_per_step)
    best, width = optimizer.best, optimizer.width
    name = _name(optimizer.label, for_names)
    # Where halving has cut runs short, a range is not known.
    good = "none" if len(optimizer.points) == optimizer.settings else "-"
    cells = [name + diverged, "-", "-", good, "not\nreached", per_step]
    if best is not None:
        spread = "" if best.deviation is None else f" ±{number(best.deviation, 2)}"
        interval = "-" if best.low is None else f"{number(best.low)} to {number(best.high)}"
        cells[1] = rate(best.learning_rate) + ("\n(edge)" if optimizer.is_at_edge else "")
        cells[2] = f"{number(best.mean)}{spread}\n{interval}"
        if best.steps_to_target is not None:
            seconds = duration(optimizer.seconds_to_target)
            cells[4] = f"{best.steps_to_target:g} steps\n{seconds}"
    if width is not None:
        cells[3] = factor_text(width).replace(" (", "\n").replace(" to ", " to\n").rstrip(")")
    return [Text(cell) for cell in cells]
