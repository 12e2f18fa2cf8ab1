"""Tables and charts that the experiments share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docs.pictures import COLOURS, GREY
from evidence.claims import Estimate
from evidence.comparison import Trials
from surefoot.compare.formatting import rate as rate_text

MARKERS = "osD^vP*X"
STYLES = ("-", "--", ":", "-.")
OPTIMIZERS = ("Adam", "RectifiedAdam", "Nadam", "Ranger", "keras.Nadam", "Lookahead", "SGD")
MOST_TICKS = 6
"""More learning rates than these are not all written at the axis."""


def look(label: str, labels: Sequence[str]) -> dict[str, Any]:
    """How an optimizer is drawn: its colour is the same in all pictures.

    Args:
        label: The optimizer with its arguments and modifiers.
        labels: All that the picture shows; those of one optimizer differ by their dashes.
    """
    name = _name(label)
    number = OPTIMIZERS.index(name)
    variant = [each for each in labels if _name(each) == name].index(label)
    return {
        "color": COLOURS[number],
        "marker": MARKERS[number],
        "linestyle": STYLES[variant % len(STYLES)],
    }


def _name(label: str) -> str:
    return label.partition("+")[0].partition("(")[0]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, its first column to the left and the others to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return [lines[0], "|---|" + "---:|" * (len(head) - 1), *lines[1:]]


def spread(value: Estimate, digits: int = 2) -> str:
    """A mean with half its interval, or alone if there is none."""
    half = (value.high - value.low) / 2
    sign = f" ± {half:.{digits}f}" if half < float("inf") else ""
    return f"{value.mean:.{digits}f}{sign}"


def results_table(
    trials: Trials, digits: int = 2, scale: float = 1.0, optimizers: Sequence[str] | None = None
) -> list[str]:
    """Means and intervals over seeds by optimizer and learning rate; each row's best is bold."""
    rates = trials.rates()
    rows = []
    for label in optimizers or trials.optimizers:
        best = trials.best_rate(label)
        cells = [f"`{label}`"]
        for rate in rates:
            found = trials.estimate(label, rate)
            if found is None:
                cells.append("")
                continue
            scaled = Estimate(found.mean * scale, found.low * scale, found.high * scale, 0)
            text = spread(scaled, digits)
            count = trials.diverged[label, rate]
            text += f" ({count} diverged)" if count else ""
            cells.append(f"**{text}**" if rate == best else text)
        rows.append(cells)
    return markdown(["", *map(rate_text, rates)], rows)


def draw_results(
    axes: Any,
    trials: Trials,
    scale: float = 1.0,
    optimizers: Sequence[str] | None = None,
    *,
    named: bool = True,
) -> None:
    """Means over the learning rate, one line an optimizer, with the range of the seeds.

    Args:
        axes: To draw on.
        trials: What was measured.
        scale: Factor on the results, such as 100 for percent.
        optimizers: Which ones, in order; default: all.
        named: Whether the lines go into the legend; once is enough for axes side by side.
    """
    labels = optimizers or trials.optimizers
    for label in labels:
        rates = trials.rates(label)
        results = [[scale * each for each in trials.at(label, rate)] for rate in rates]
        means = [sum(each) / len(each) for each in results]
        below = [mean - min(each) for mean, each in zip(means, results, strict=True)]
        above = [max(each) - mean for mean, each in zip(means, results, strict=True)]
        axes.errorbar(
            rates,
            means,
            yerr=(below, above),
            label=label if named else None,
            markersize=4,
            capsize=2,
            **look(label, labels),
        )
    axes.set(xscale="log", xlabel="learning rate")
    if len(trials.rates()) <= MOST_TICKS:
        axes.set_xticks(trials.rates(), [rate_text(rate) for rate in trials.rates()])
        axes.minorticks_off()


def edges(trials: Trials) -> str:
    """Says whose best learning rate is the lowest or highest one tried."""
    found = [
        f"`{label}`"
        for label in trials.optimizers
        if trials.best_rate(label) in (trials.rates(label)[0], trials.rates(label)[-1])
    ]
    if not found:
        return "Every best learning rate lies inside the range that was tried."
    return (
        f"The best learning rate lies at the edge of those tried for {', '.join(found)}: "
        f"a better one may lie beyond it."
    )


def losses_table(trials: Trials, guessing_loss: float) -> list[str]:
    """Losses of a language model by learning rate, and what guessing costs."""
    return [
        "Final validation loss in nats per character; guessing by frequency costs "
        f"{guessing_loss:.2f}.",
        "",
        *results_table(trials),
        "",
        edges(trials),
    ]


def draw_losses(axes: Any, trials: Trials, guessing_loss: float, title: str) -> None:
    """Losses of a language model over the learning rate, above what guessing costs."""
    draw_results(axes, trials)
    axes.axhline(guessing_loss, color=GREY, linestyle=":", label="guessing")
    axes.set(ylabel="validation loss, nats", title=title)
