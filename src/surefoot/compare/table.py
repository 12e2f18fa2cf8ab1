"""The closing table on the terminal."""

from rich.table import Table

from surefoot.compare.numbers import duration, factor_text, number, rate
from surefoot.compare.summary import OptimizerSummary, Summary


def closing_table(summary: Summary) -> Table:
    """One line per optimizer, best first."""
    table = Table(header_style="bold", row_styles=("", "dim"))
    table.add_column("optimizer", overflow="fold")
    table.add_column("best\nlearning rate", justify="right")
    table.add_column(f"{summary.metric}\n95 % interval", justify="right")
    table.add_column("good\nlearning rates", justify="right")
    table.add_column("to\ntarget", justify="right")
    table.add_column("a step", justify="right")
    table.add_column("diverged", justify="right")
    for optimizer in summary.optimizers:
        table.add_row(*_cells(optimizer))
    for label in summary.failures:
        table.add_row(label, *["could not be trained", *[""] * 5])
    return table


def _cells(optimizer: OptimizerSummary) -> list[str]:
    diverged = f"{optimizer.diverged} of {optimizer.trials}"
    per_step = duration(optimizer.seconds_per_step)
    best, width = optimizer.best, optimizer.width
    if best is None:
        return [optimizer.label, "-", "-", "none", "-", per_step, diverged]
    spread = "" if best.deviation is None else f" ±{number(best.deviation, 2)}"
    interval = "-" if best.low is None else f"{number(best.low)} to {number(best.high)}"
    target = "not reached"
    if best.steps_to_target is not None:
        target = f"{best.steps_to_target:g} steps\n{duration(optimizer.seconds_to_target)}"
    return [
        optimizer.label,
        rate(best.learning_rate) + ("\n(edge)" if optimizer.is_at_edge else ""),
        f"{number(best.mean)}{spread}\n{interval}",
        factor_text(width).replace(" (", "\n(") if width else "none",
        target,
        per_step,
        diverged,
    ]
