"""Tables and charts that the experiments share."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from docs.pictures import COLOURS, GREY
from evidence.claims import Estimate, Results, estimate
from evidence.comparison import Trials
from evidence.contests import TrialsOf
from surefoot.compare.formatting import rate as rate_text

MARKERS = "osD^vP*X"
STYLES = {"": "-", "scale": "--", "warmup": ":", "cosine": "-."}
"""By what changes the learning rate."""
OPTIMIZERS = ("Adam", "RectifiedAdam", "Nadam", "Ranger", "keras.Nadam", "Lookahead", "SGD")
MOST_TICKS = 6
"""More learning rates than these are not all written at the axis."""


def look(label: str) -> dict[str, Any]:
    """How an optimizer is drawn: the same in all pictures.

    Args:
        label: The optimizer with its arguments and modifiers.
    """
    optimizer, _, modifier = label.partition("+")
    number = OPTIMIZERS.index(optimizer.partition("(")[0])
    return {
        "color": COLOURS[number],
        "marker": MARKERS[number],
        "linestyle": STYLES[modifier.partition("(")[0]],
    }


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


def scheduled_table(
    results: Results, trials: TrialsOf, what: str, digits: int = 2, scale: float = 1.0
) -> list[str]:
    """Each optimizer at its best with a schedule, by the fresh seeds.

    Args:
        results: Of the experiment.
        trials: Finds their part.
        what: The results are.
        digits: Of the results.
        scale: Factor on them, such as 100 for percent.
    """
    found = results["scheduled"]
    if "trials" not in found:
        return ["The runs with warmup and decay: **not run**."]
    table = trials(results, "scheduled")
    searched = [rate for rate in table.rates() if rate not in found["beyond"]]
    gap = max(after / before for before, after in pairwise(searched))
    beyond = ", ".join(map(rate_text, found["beyond"]))
    added = f" Then {beyond}, because a best one was the lowest or highest tried." if beyond else ""
    fresh = {x: estimate([scale * each for each in table.best(x)]) for x in table.optimizers}
    seeds = min(each.seeds for each in fresh.values())
    rows = [
        [f"`{label}`", rate_text(table.best_rate(label)), spread(each, digits)]
        for label, each in fresh.items()
    ]
    return [
        f"{what} with warmup and decay after {found['steps']:,} steps, {seeds} fresh seeds at the "
        f"best of {len(searched)} learning rates from {rate_text(searched[0])} to "
        f"{rate_text(searched[-1])}, which lie up to a factor of {gap:.1f} apart.{added} "
        f"{edges(table)}",
        "",
        *markdown(["", "best learning rate", "result"], rows),
    ]


def draw_parts(
    axes: Sequence[Any],
    trials: TrialsOf,
    results: Results,
    scale: float = 1.0,
    shown: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Results over the learning rate, constant ones to the left, with a schedule to the right.

    Args:
        axes: To draw on.
        trials: Finds the two parts.
        results: Of the experiment.
        scale: Factor on the results.
        shown: Which optimizers, by part; default: all.
    """
    named: set[str] = set()
    titles = {"constant": "Constant learning rate", "scheduled": "Warmup and decay"}
    for each, (part, title) in zip(axes, titles.items(), strict=True):
        each.set_title(title)
        if "trials" not in results[part]:
            each.set_title(f"{title}: not run")
            each.axis("off")
            continue
        table = trials(results, part)
        labels = shown[part] if shown else table.optimizers
        draw_results(each, table, scale, labels, named=set(labels) - named)
        named |= set(labels)


def draw_results(
    axes: Any,
    trials: Trials,
    scale: float,
    labels: Sequence[str],
    named: Collection[str],
) -> None:
    """Means over the learning rate, one line an optimizer, with the range of the seeds.

    The mean of fresh seeds is a star.

    Args:
        axes: To draw on.
        trials: What was measured.
        scale: Factor on the results, such as 100 for percent.
        labels: Which optimizers, in order.
        named: Those that go into the legend; once is enough for axes side by side.
    """
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
            label=label if label in named else None,
            markersize=4,
            capsize=2,
            **look(label),
        )
        if trials.has_fresh_seeds:
            fresh = scale * statistics.fmean(trials.best(label))
            star = {"marker": "*", "markersize": 11, "color": look(label)["color"], "zorder": 3}
            axes.plot([trials.best_rate(label)], [fresh], **star)
    axes.set(xscale="log", xlabel="learning rate")
    if len(trials.rates()) <= MOST_TICKS:
        axes.set_xticks(trials.rates(), [rate_text(rate) for rate in trials.rates()])
        axes.minorticks_off()


def edges(trials: Trials) -> str:
    """Says whose best learning rate is the lowest or highest one tried."""
    found = [f"`{label}`" for label in trials.optimizers if trials.is_at_edge(label)]
    if not found:
        return "Every best learning rate lies inside the range that was tried."
    return (
        f"The best learning rate lies at the edge of those tried for {', '.join(found)}: "
        f"a better one may lie beyond it."
    )


def losses_tables(trials: TrialsOf, results: Results) -> list[str]:
    """Losses of a language model: by learning rate, those of the fresh seeds, and of guessing."""
    guessing_loss = results["constant"]["facts"]["guessing_loss"]
    table = trials(results, "constant")
    return [
        f"Validation loss in nats per character after {results['constant']['steps']:,} steps at "
        f"constant learning rates; guessing by frequency costs {guessing_loss:.2f}.",
        "",
        *results_table(table),
        "",
        edges(table),
        "",
        *scheduled_table(results, trials, "Validation loss", 3),
    ]


def draw_losses(axes: Sequence[Any], trials: TrialsOf, results: Results) -> None:
    """Losses of a language model over the learning rate, above what guessing costs."""
    draw_parts(axes, trials, results)
    for each in axes:
        label = "guessing" if each is axes[0] else None
        guessing_loss = results["constant"]["facts"]["guessing_loss"]
        each.axhline(guessing_loss, color=GREY, linestyle=":", label=label)
        each.set(ylabel="validation loss, nats")
